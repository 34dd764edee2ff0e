#include "hadal/ops/latent_entry.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace hadal::ops {
namespace {

TEST(LatentEntry, HasThePublishedSize) {
  const Fp8Entry v3{.latent = 512, .rope = 64};
  EXPECT_EQ(v3.bytes(), 656);
  EXPECT_EQ(v3.scales_at(), 512);
  EXPECT_EQ(v3.rope_at(), 528);
}

TEST(LatentEntry, ComesBackWithinTheStepsOfItsFormats) {
  Context ctx(2);
  for (const Fp8Entry entry : {Fp8Entry{512, 64}, Fp8Entry{6, 2}, Fp8Entry{130, 16}}) {
    const Index width = entry.latent + entry.rope;
    const TensorRef x = ctx.workspace.floats({9, width}), y = ctx.workspace.floats({9, width});
    const TensorRef stored = ctx.workspace.tensor(DType::kU8, {9, entry.bytes()});
    const auto from = x.view<float, 2>(), to = y.view<float, 2>();
    for (Index r = 0; r < 9; ++r)
      for (Index c = 0; c < width; ++c)
        from(r, c) = static_cast<float>((c * 37 + r * 11) % 101 - 50) * std::pow(10.0f, static_cast<float>(r - 4));
    pack_entries(ctx, entry, x, stored);
    unpack_entries(ctx, entry, stored, y);
    for (Index r = 0; r < 9; ++r)
      for (Index c = 0; c < width; ++c) {
        // Half a step is 1/16 of an E4M3 value and 1/256 of a BF16 one; below E4M3's normal range steps are absolute.
        const bool latent = c < entry.latent;
        const float largest = 50 * std::pow(10.0f, static_cast<float>(r - 4));
        const float bound =
            latent ? std::max(std::abs(from(r, c)) / 16, largest / 448 / 1024) : std::abs(from(r, c)) / 256;
        EXPECT_LE(std::abs(to(r, c) - from(r, c)), bound * 1.001f) << r << ", " << c;
      }
  }
}

TEST(LatentEntry, GroupsOf128HaveScalesOfTheirOwn) {
  Context ctx(1);
  const Fp8Entry entry{.latent = 256, .rope = 0};
  const TensorRef x = ctx.workspace.floats({1, 256}), y = ctx.workspace.floats({1, 256});
  for (Index i = 0; i < 256; ++i) x.data<float>()[i] = i < 128 ? 448.0f * 1000 : 7.0f;
  const TensorRef stored = ctx.workspace.tensor(DType::kU8, {1, entry.bytes()});
  pack_entries(ctx, entry, x, stored);
  float scales[2];
  std::memcpy(scales, stored.data<std::uint8_t>() + entry.scales_at(), sizeof(scales));
  EXPECT_EQ(scales[0], 1000.0f);
  EXPECT_EQ(scales[1], 7.0f / 448);
  unpack_entries(ctx, entry, stored, y);
  EXPECT_EQ(y.data<float>()[0], 448'000.0f);
  EXPECT_EQ(y.data<float>()[255], 7.0f);
}

}  // namespace
}  // namespace hadal::ops
