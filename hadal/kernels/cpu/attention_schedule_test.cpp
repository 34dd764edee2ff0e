#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/core/random.h"
#include "hadal/kernels/cpu/schedule.h"

namespace hadal::kernels {
namespace {

Tensor random_tensor(Shape shape, std::uint64_t stream) {
  const Philox random(11, stream);
  Tensor t(DType::kF32, shape);
  for (Index i = 0; i < t->num_elements(); ++i)
    t->data<float>()[i] = static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) * 2 - 1);
  return t;
}

// Two sequences, some queries each, over F32 entries in pages that lie in no order.
struct Pass {
  Index heads, latent, rope = 8;
  Index tokens = 5;
  Tensor q, q_pe, entries;
  std::vector<const void*> pages[2];
  std::vector<CachedSequence> sequences;

  Pass(Index heads_, Index latent_, Index keys) : heads(heads_), latent(latent_) {
    q = random_tensor({tokens, heads, latent}, 1);
    q_pe = random_tensor({tokens, heads, rope}, 2);
    const Index blocks = (keys + kAbsorbedBlock - 1) / kAbsorbedBlock;
    entries = random_tensor({2 * blocks * kAbsorbedBlock, latent + rope}, 3);
    const StoredEntries stored{nullptr, DType::kF32, (latent + rope) * 4, 0, 0};
    for (Index s = 0; s < 2; ++s)
      for (Index b = 0; b < blocks; ++b)
        pages[s].push_back(entries->rows(((b * 2 + s) * 7 % (2 * blocks)) * kAbsorbedBlock, entries.size(0)).raw());
    sequences = {{0, 2, keys - 2, pages[0], stored}, {2, 5, 127, pages[1], stored}};
  }
  AbsorbedAttentionArgs args(const Tensor& out) const {
    AbsorbedAttentionArgs a;
    a.q_latent = q->data<float>();
    a.q_latent_token_stride = heads * latent;
    a.q_latent_head_stride = latent;
    a.q_pe = q_pe->data<float>();
    a.q_pe_token_stride = heads * rope;
    a.q_pe_head_stride = rope;
    a.out = out->data<float>();
    a.out_token_stride = heads * latent;
    a.out_head_stride = latent;
    a.latent = latent;
    a.rope = rope;
    a.scale = 0.3f;
    return a;
  }
  // All partial results of a query at once, by one thread: the order that is kept.
  Tensor whole(Isa isa) const {
    Tensor out = Tensor::zeros(DType::kF32, {tokens, heads, latent});
    const AbsorbedAttentionArgs a = args(out);
    const AttentionKernels& k = attention_kernels(isa);
    for (const CachedSequence& s : sequences)
      for (Index t = s.begin; t < s.end; ++t) {
        const Index blocks = (s.keys(t) + kAbsorbedBlock - 1) / kAbsorbedBlock;
        const Tensor packed(DType::kF32, {k.packed_query_floats(a, heads)}),
            scratch(DType::kF32, {k.absorbed_scratch_floats(heads)}), largest(DType::kF32, {blocks, heads}),
            sum(DType::kF32, {blocks, heads}), parts(DType::kF32, {blocks, heads, latent});
        k.pack_query(a, t, heads, packed->data<float>());
        for (Index b = 0; b < blocks; ++b) {
          AbsorbedBlockArgs block;
          block.q = packed->data<float>();
          block.entries = static_cast<const float*>(s.pages[static_cast<std::size_t>(b)]);
          block.entry_stride = latent + rope;
          block.keys = std::min(kAbsorbedBlock, s.keys(t) - b * kAbsorbedBlock);
          block.heads = heads;
          block.latent = latent;
          block.rope = rope;
          block.largest = largest->data<float>() + b * heads;
          block.sum = sum->data<float>() + b * heads;
          block.out = parts->data<float>() + b * heads * latent;
          k.absorbed_block(block, scratch->data<float>());
        }
        for (Index h = 0; h < heads; ++h)
          k.merge(largest->data<float>() + h, sum->data<float>() + h, heads, parts->data<float>() + h * latent,
                  heads * latent, blocks, latent, &out->view<float, 3>()(t, h, 0));
      }
    return out;
  }
};

bool same_bits(const Tensor& a, const Tensor& b) {
  return std::memcmp(a->raw(), b->raw(), static_cast<std::size_t>(a->num_bytes())) == 0;
}

class AbsorbedPass : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  }
};

TEST_P(AbsorbedPass, HasTheSameBitsWhateverMemoryAndThreadsThereAre) {
  for (const auto& [heads, keys] : {std::pair<Index, Index>{72, 700}, {40, 260}, {3, 130}}) {
    const Pass p(heads, 48, keys);
    const Tensor expected = p.whole(GetParam());
    for (const int threads : {1, 3})
      for (const Index floats : {Index{1}, Index{33 * 48 * 6}, Index{400 * 48 * 6}, cpu::kPartialFloats}) {
        Context ctx(threads, GetParam());
        const Tensor out = Tensor::zeros(DType::kF32, {p.tokens, heads, 48});
        cpu::attend_absorbed(ctx, p.args(out), heads, p.sequences, floats);
        EXPECT_TRUE(same_bits(out, expected)) << heads << " heads, " << threads << " threads, " << floats;
      }
  }
}

// Sequences of 8k at V3's size, of which each takes 16 MiB: one page stands for all of theirs.
TEST_P(AbsorbedPass, TakesNoMoreMemoryForMoreSequences) {
  constexpr Index kSequences = 8, kHeads = 128, kLatent = 512, kRope = 64, kKeys = 8192;
  const Tensor q = Tensor::zeros(DType::kF32, {kSequences, kHeads, kLatent}),
               q_pe = Tensor::zeros(DType::kF32, {kSequences, kHeads, kRope}),
               out = Tensor::zeros(DType::kF32, {kSequences, kHeads, kLatent}),
               page = random_tensor({kAbsorbedBlock, kLatent + kRope}, 4);
  const std::vector<const void*> pages(kKeys / kAbsorbedBlock, page->raw());
  std::vector<CachedSequence> sequences;
  for (Index s = 0; s < kSequences; ++s)
    sequences.push_back({s, s + 1, kKeys - 1, pages, {nullptr, DType::kF32, (kLatent + kRope) * 4, 0, 0}});
  AbsorbedAttentionArgs a;
  a.q_latent = q->data<float>();
  a.q_latent_token_stride = kHeads * kLatent;
  a.q_latent_head_stride = kLatent;
  a.q_pe = q_pe->data<float>();
  a.q_pe_token_stride = kHeads * kRope;
  a.q_pe_head_stride = kRope;
  a.out = out->data<float>();
  a.out_token_stride = kHeads * kLatent;
  a.out_head_stride = kLatent;
  a.latent = kLatent;
  a.rope = kRope;
  a.scale = 1;
  Context ctx(2, GetParam());
  cpu::attend_absorbed(ctx, a, kHeads, sequences, cpu::kPartialFloats);
  EXPECT_LE(ctx.workspace.allocated_bytes(), std::size_t{48} << 20);
  // Queries of zeros weigh all entries alike, and all pages are the same one.
  double mean = 0;
  for (Index j = 0; j < kAbsorbedBlock; ++j) mean += double{page->view<float, 2>()(j, 5)} / kAbsorbedBlock;
  for (Index s = 0; s < kSequences; ++s) ASSERT_NEAR((out->view<float, 3>()(s, 100, 5)), mean, 1e-5) << s;
}

INSTANTIATE_TEST_SUITE_P(Isas, AbsorbedPass, ::testing::Values(Isa::kAvx2, Isa::kAvx512),
                         [](const auto& p) { return std::string(isa_name(p.param)); });

}  // namespace
}  // namespace hadal::kernels
