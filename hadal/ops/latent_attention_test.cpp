// Attention straight from the latent cache: what is kept from chunk to chunk, and what is not.
#include "hadal/ops/latent_attention.h"

#include <gtest/gtest.h>

#include <cstring>

#include "hadal/core/out_of_memory.h"
#include "hadal/core/random.h"

namespace hadal::ops {
namespace latent_attention_test {
namespace {

// So many heads that a piece of what is kept is one block.
constexpr Index kHeads = 200, kLatent = 16;
constexpr HeadRows kRows{8, 8};
constexpr Index kRope = 4, kTokens = 300;

Tensor numbers(Shape shape, std::uint64_t seed) {
  Tensor t(DType::kF32, shape);
  const Philox random(seed, 0);
  for (Index i = 0; i < t->num_elements(); ++i)
    t->data<float>()[i] = static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) * 2 - 1);
  return t;
}

// The host's, for so many pieces.
class ScarceMemory : public DeviceMemory {
 public:
  explicit ScarceMemory(int pieces) : pieces_(pieces) {}
  Device device() const override { return {}; }
  void* allocate(std::size_t bytes) override {
    if (pieces_-- <= 0) throw OutOfMemory("scarce");
    return host_memory().allocate(bytes);
  }
  void free(void* p) noexcept override { host_memory().free(p); }
  void copy_from_host(void*, const void*, std::size_t) override {}
  void copy_to_host(void*, const void*, std::size_t) override {}
  void copy_within(void*, const void*, std::size_t) override {}

 private:
  int pieces_;
};

class Chunks : public ::testing::TestWithParam<Isa> {
 protected:
  // Tokens in chunks of 100, kept there.
  Tensor run(ExpandedKeys* kept) {
    Tensor out(DType::kF32, {kTokens, kHeads, kRows.v});
    for (Index begin = 0; begin < kTokens; begin += 100) {
      const Index end = begin + 100;
      const CachedEntries cached{pages_of(entries->rows(0, end)), {.latent = kLatent, .rope = kRope}, kept};
      expand_and_attend(ctx, q->rows(begin, end), cached, {.values = w_ukv}, kRows, begin, 0.3, out->rows(begin, end));
    }
    return out;
  }
  static bool same(const Tensor& a, const Tensor& b) {
    return std::memcmp(a->raw(), b->raw(), static_cast<std::size_t>(a->num_bytes())) == 0;
  }

  Context ctx{2, GetParam()};
  Tensor q = numbers({kTokens, kHeads, kRows.nope + kRope}, 1), entries = numbers({kTokens, kLatent + kRope}, 2),
         w_ukv = numbers({kHeads * (kRows.nope + kRows.v), kLatent}, 3);
};

TEST_P(Chunks, KeptKeysGiveTheSameBits) {
  if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  ExpandedKeys kept(host_memory());
  EXPECT_TRUE(same(run(&kept), run(nullptr)));
  EXPECT_EQ(kept.length(), kTokens);
}

TEST_P(Chunks, WithoutMemoryForThemTheyAreMadeAgain) {
  if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  for (const int pieces : {0, 1}) {  // two would do
    ScarceMemory scarce(pieces);
    ExpandedKeys kept(scarce);
    EXPECT_TRUE(same(run(&kept), run(nullptr))) << pieces;
    EXPECT_EQ(kept.length(), 0) << pieces;
  }
}

// A step of 64 sequences at 8,192 tokens each with V3's 128 heads. Each thread has scratch memory of 0.4 MB beside.
TEST(AbsorbedAttention, ManyLongSequencesTakeLittleMemory) {
  std::vector<CachedRows> rows;
  for (Index i = 0; i < 64; ++i) rows.push_back({.begin = i, .end = i + 1, .first_position = 8191});
  for (const int threads : {1, 8, 32}) {
    const Context ctx(threads);
    EXPECT_LE(attend_absorbed_need(ctx, 64, 128, 512, 64, rows).most(), std::size_t{64} << 20) << threads;
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, Chunks, ::testing::ValuesIn(kAllIsas),
                         [](const auto& p) { return "isa" + std::to_string(static_cast<int>(p.param)); });

}  // namespace
}  // namespace latent_attention_test
}  // namespace hadal::ops
