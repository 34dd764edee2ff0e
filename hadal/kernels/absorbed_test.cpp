// One block of attention in the absorbed form: what entries are stored as changes no bit, and sums have one order.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"
#include "hadal/kernels/attention.h"

namespace hadal::kernels {
namespace absorbed_test {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

std::vector<float> values(Index n, std::uint64_t stream) {
  const Philox random(5, stream);
  std::vector<float> v;
  for (Index i = 0; i < n; ++i) v.push_back(static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) * 2 - 1));
  return v;
}

struct Results {
  std::vector<float> largest, sum, out;
  bool operator==(const Results& o) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(largest, o.largest) && same(sum, o.sum) && same(out, o.out);
  }
};

struct Block {
  Index keys, heads, latent, rope;
  std::vector<float> q, pe;

  Block(Index keys_, Index heads_, Index latent_, Index rope_)
      : keys(keys_), heads(heads_), latent(latent_), rope(rope_) {
    q = values(heads * latent, 1);
    pe = values(heads * rope, 2);
  }
  Index width() const { return latent + rope; }

  // `entries` as they are, or, where `stored` has rows, unpacked by the kernel.
  Results run(Isa isa, const float* entries, Index entry_stride, StoredEntries stored = {}) const {
    const AttentionKernels& k = attention_kernels(isa);
    AbsorbedAttentionArgs all;
    all.q_latent = q.data();
    all.q_latent_head_stride = latent;
    all.q_pe = pe.data();
    all.q_pe_head_stride = rope;
    all.latent = latent;
    all.rope = rope;
    all.scale = 0.3f;
    std::vector<float> packed(static_cast<std::size_t>(k.packed_query_floats(all, heads)), kPoison),
        scratch(static_cast<std::size_t>(k.absorbed_scratch_floats(heads)), kPoison),
        unpacked(static_cast<std::size_t>(keys * entry_stride), kPoison);
    k.pack_query(all, 0, heads, packed.data());
    Results r{std::vector<float>(static_cast<std::size_t>(heads), kPoison),
              std::vector<float>(static_cast<std::size_t>(heads), kPoison),
              std::vector<float>(static_cast<std::size_t>(heads * latent), kPoison)};
    AbsorbedBlockArgs a;
    a.q = packed.data();
    a.entries = stored.rows ? unpacked.data() : entries;
    a.entry_stride = entry_stride;
    a.stored = stored;
    a.unpacked = unpacked.data();
    a.keys = keys;
    a.heads = heads;
    a.latent = latent;
    a.rope = rope;
    a.ahead = entries;
    a.ahead_bytes = keys * entry_stride * 4;
    a.largest = r.largest.data();
    a.sum = r.sum.data();
    a.out = r.out.data();
    k.absorbed_block(a, scratch.data());
    return r;
  }
};

class AbsorbedBlock : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  }
};

// Keys that make tiles of every height, sixteens of columns and other widths, gaps between rows.
TEST_P(AbsorbedBlock, StoredEntriesGiveTheBitsOfTheirNumbers) {
  for (const Index keys : {1, 5, 12, 71, 128})
    for (const Index heads : {16, 18})
      for (const auto& [latent, rope] : {std::pair<Index, Index>{48, 16}, {30, 4}, {136, 24}})
        for (const Index gap : {0, 8}) {
          const Block b(keys, heads, latent, rope);
          const Index width = b.width();
          std::vector<bf16> words(static_cast<std::size_t>(keys * (width + gap)));
          std::vector<float> numbers(words.size(), kPoison);
          const auto x = values(keys * width, 3);
          for (Index i = 0; i < keys * width; ++i) {
            const auto at = static_cast<std::size_t>(i / width * (width + gap) + i % width);
            words[at] = float_to_bf16(x[static_cast<std::size_t>(i)]);
            numbers[at] = bf16_to_float(words[at]);
          }
          const StoredEntries bf16_entries{words.data(), DType::kBF16, (width + gap) * 2, 0, 0};
          EXPECT_EQ(b.run(GetParam(), numbers.data(), width, bf16_entries),
                    b.run(GetParam(), numbers.data(), width + gap))
              << keys << " keys, " << heads << " heads, " << latent << " + " << rope << ", " << gap;

          const Index scales_at = (latent + 3) / 4 * 4, rope_at = scales_at + 4 * ((latent + 127) / 128),
                      row_bytes = (rope_at + 2 * rope + 3) / 4 * 4 + gap * 4;
          std::vector<std::uint8_t> bytes(static_cast<std::size_t>(keys * row_bytes));
          std::vector<float> back(static_cast<std::size_t>(keys * width));
          for (Index j = 0; j < keys; ++j) {
            std::uint8_t* row = &bytes[static_cast<std::size_t>(j * row_bytes)];
            ref::pack_entry(&x[static_cast<std::size_t>(j * width)], latent, rope, scales_at, rope_at, row);
            ref::unpack_entry(row, latent, rope, scales_at, rope_at, &back[static_cast<std::size_t>(j * width)]);
          }
          const StoredEntries fp8_entries{bytes.data(), DType::kU8, row_bytes, scales_at, rope_at};
          EXPECT_EQ(b.run(GetParam(), back.data(), width, fp8_entries), b.run(GetParam(), back.data(), width))
              << "FP8, " << keys << " keys, " << heads << " heads, " << latent << " + " << rope << ", " << gap;
        }
}

// The largest score is one of the chains over the columns, in ascending order.
TEST_P(AbsorbedBlock, ScoresAreChainsOverTheColumns) {
  for (const Index keys : {1, 6, 71})
    for (const auto& [latent, rope] : {std::pair<Index, Index>{48, 16}, {30, 4}, {64, 7}}) {
      const Block b(keys, 18, latent, rope);
      const auto entries = values(keys * b.width(), 4);
      const Results r = b.run(GetParam(), entries.data(), b.width());
      for (Index h = 0; h < b.heads; ++h) {
        float most = -HUGE_VALF;
        for (Index j = 0; j < keys; ++j) {
          float score = 0;
          for (Index c = 0; c < b.width(); ++c) {
            const float q = c < latent ? b.q[static_cast<std::size_t>(h * latent + c)]
                                       : b.pe[static_cast<std::size_t>(h * rope + c - latent)];
            score = std::fma(q * 0.3f, entries[static_cast<std::size_t>(j * b.width() + c)], score);
          }
          most = std::max(most, score);
        }
        ASSERT_EQ(r.largest[static_cast<std::size_t>(h)], most) << keys << " " << latent << " head " << h;
      }
    }
}

// Queries of zeros weigh all keys with 1: what is left are the sums over the keys, in their order.
TEST_P(AbsorbedBlock, WeightedSumsAreChainsOverTheKeys) {
  for (const Index keys : {1, 6, 63, 64, 66, 71, 127, 128})
    for (const Index heads : {3, 16, 18})
      for (const Index latent : {24, 30, 48, 64, 136}) {
        Block b(keys, heads, latent, 8);
        std::ranges::fill(b.q, 0.0f);
        std::ranges::fill(b.pe, 0.0f);
        const auto entries = values(keys * b.width(), 5);
        const Results r = b.run(GetParam(), entries.data(), b.width());
        for (Index c = 0; c < latent; ++c) {
          float sum = 0;
          for (Index j = 0; j < keys; ++j) sum += entries[static_cast<std::size_t>(j * b.width() + c)];
          for (Index h = 0; h < heads; ++h)
            ASSERT_EQ(r.out[static_cast<std::size_t>(h * latent + c)], sum)
                << keys << " keys, " << heads << " heads, column " << c << " of " << latent;
        }
        for (Index h = 0; h < heads; ++h)
          ASSERT_EQ(r.sum[static_cast<std::size_t>(h)], static_cast<float>(keys)) << keys << " " << heads;
      }
}

INSTANTIATE_TEST_SUITE_P(Isas, AbsorbedBlock, ::testing::Values(Isa::kAvx2, Isa::kAvx512),
                         [](const auto& p) { return std::string(isa_name(p.param)); });

}  // namespace
}  // namespace absorbed_test
}  // namespace hadal::kernels
