#include "hadal/kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"

namespace hadal::kernels {
namespace attention_test {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

std::vector<float> values(Index n, std::uint64_t stream, float size = 1) {
  const Philox random(3, stream);
  std::vector<float> v;
  for (Index i = 0; i < n; ++i)
    v.push_back(static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) * 2 - 1) * size);
  return v;
}

Tensor poisoned(Index floats) {
  Tensor t(DType::kF32, {floats + 16});
  std::fill_n(t->data<float>(), t->num_elements(), kPoison);
  return t;
}

double worst(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::isnan(a[i]) ? HUGE_VAL : std::abs(double{a[i]} - b[i]));
    largest = std::max(largest, std::abs(double{b[i]}));
  }
  return difference / largest;
}

class Attention : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  }
};

// One head group in the expanded form; strides as kv_b_proj gives them.
struct Expanded {
  Index tokens, first, heads = 2, nope = 20, rope = 6, v = 12;
  float size = 1;
  std::vector<float> q, kv, pe;

  Expanded(Index tokens_, Index first_, Index nope_, Index v_, float size_ = 1)
      : tokens(tokens_), first(first_), nope(nope_), v(v_), size(size_) {
    q = values(tokens * heads * (nope + rope), 8, size);
    kv = values((first + tokens) * heads * (nope + v), 9, size);
    pe = values((first + tokens) * rope, 10, size);
  }
  ExpandedAttentionArgs args(std::vector<float>& out) const {
    out.assign(static_cast<std::size_t>(tokens * heads * v), kPoison);
    ExpandedAttentionArgs a;
    a.q = q.data();
    a.q_token_stride = heads * (nope + rope);
    a.q_head_stride = nope + rope;
    a.out = out.data();
    a.out_token_stride = heads * v;
    a.out_head_stride = v;
    a.nope = nope;
    a.rope = rope;
    a.v = v;
    a.first_position = first;
    a.scale = 0.3f;
    return a;
  }
  NewKeysArgs new_keys(Index begin, Index end) const {
    NewKeysArgs a;
    a.kv = kv.data() + begin * heads * (nope + v);
    a.kv_token_stride = heads * (nope + v);
    a.kv_head_stride = nope + v;
    a.k_pe = pe.data() + begin * rope;
    a.k_pe_stride = rope;
    a.nope = nope;
    a.rope = rope;
    a.v = v;
    a.begin = begin;
    a.end = end;
    return a;
  }
  std::vector<float> expected() const {
    std::vector<float> out, scores(static_cast<std::size_t>(first + tokens + 8));
    const PackedKeys packed(*this, ref::pack_keys, first + tokens);
    ExpandedAttentionArgs a = args(out);
    a.keys = packed.blocks;
    for (Index t = 0; t < tokens; ++t)
      for (Index h = 0; h < heads; ++h) ref::attend_expanded(a, t, h, scores.data());
    return out;
  }
  // Queries [begin, end) of the tokens, or all; keys packed `chunk` positions at a time.
  std::vector<float> run(Isa isa, Index begin = 0, Index end = -1, Index chunk = 1024) const {
    std::vector<float> out;
    const AttentionKernels& k = attention_kernels(isa);
    const PackedKeys packed(*this, k.pack_keys, chunk);
    ExpandedAttentionArgs a = args(out);
    a.keys = packed.blocks;
    const Tensor scratch = poisoned(k.expanded_scratch_floats(a));
    for (Index h = 0; h < heads; ++h) k.expanded(a, h, begin, end < 0 ? tokens : end, scratch->data<float>());
    return out;
  }

  // The last block has room for what there is.
  struct PackedKeys {
    PackedKeys(const Expanded& e, decltype(&ref::pack_keys) pack, Index chunk) {
      const Index keys = e.first + e.tokens;
      for (Index begin = 0; begin < keys; begin += kExpandedBlock) {
        const Index room = (std::min(kExpandedBlock, keys - begin) + kKeyAlignment - 1) / kKeyAlignment * kKeyAlignment;
        const Index floats = key_block_floats(e.nope, e.rope, e.v, room);
        memory.push_back(poisoned(e.heads * floats));
        blocks.push_back({memory.back()->data<float>(), floats, room});
      }
      for (Index begin = 0, end = 0; begin < keys; begin = end) {
        end = std::min({begin + chunk, keys, (begin / kExpandedBlock + 1) * kExpandedBlock});
        const Index from = begin / kKeyAlignment * kKeyAlignment;
        for (Index h = 0; h < e.heads; ++h)
          pack(e.new_keys(from, end), h, from, end, blocks[static_cast<std::size_t>(from / kExpandedBlock)]);
      }
    }
    std::vector<Tensor> memory;
    std::vector<KeyBlock> blocks;
  };
};

TEST_P(Attention, ExpandedAgreesWithTheReference) {
  for (const Index tokens : {1, 2, 5, 13, 40})
    for (const Index first : {0, 1, 37, 250, 600})
      for (const auto& [nope, v] : {std::pair<Index, Index>{20, 12}, {32, 64}}) {
        const Expanded e(tokens, first, nope, v);
        ASSERT_LE(worst(e.run(GetParam()), e.expected()), 3e-6) << tokens << " " << first << " " << nope;
      }
}

TEST_P(Attention, Rule18_AQueryHasTheSameBitsAloneAndAmongOthersAndOnEveryInstructionSet) {
  const Expanded e(60, 230, 32, 40);
  const auto whole = e.run(GetParam());
  for (const Index begin : {0, 1, 25, 26, 59})
    for (const Index count : {1, 3, 4, 12}) {
      const Index end = std::min<Index>(begin + count, 60);
      const auto part = e.run(GetParam(), begin, end);
      const auto from = static_cast<std::size_t>(begin * e.heads * e.v),
                 to = static_cast<std::size_t>(end * e.heads * e.v);
      ASSERT_EQ(std::memcmp(&part[from], &whole[from], (to - from) * sizeof(float)), 0) << begin << " + " << count;
    }
  const auto avx2 = e.run(Isa::kAvx2);
  EXPECT_EQ(std::memcmp(avx2.data(), whole.data(), whole.size() * sizeof(float)), 0);
}

TEST_P(Attention, Rule18_QueriesMayComeInPiecesOfAnyLength) {
  const Expanded e(230, 100, 32, 40);
  const auto whole = e.run(GetParam());
  for (const Index size : {31, 48, 96, 100}) {
    for (Index begin = 0; begin < e.tokens; begin += size) {
      const Index end = std::min(begin + size, e.tokens);
      const auto part = e.run(GetParam(), begin, end);
      const auto from = static_cast<std::size_t>(begin * e.heads * e.v),
                 to = static_cast<std::size_t>(end * e.heads * e.v);
      ASSERT_EQ(std::memcmp(&part[from], &whole[from], (to - from) * sizeof(float)), 0) << begin << " + " << size;
    }
  }
}

// Exponentials of a few scores are computed together, in fewer steps if none of them is tiny.
TEST_P(Attention, WeightsHaveTheSameBitsBesideOneThatVanishes) {
  const auto run = [](float far) {
    Expanded e(100, 0, 20, 12);
    // A direction of their own: keys 20 and 50 lie far off for all queries, others do not see it.
    for (Index t = 0; t < e.tokens; ++t) {
      for (Index h = 0; h < e.heads; ++h)
        e.q[static_cast<std::size_t>((t * e.heads + h) * (e.nope + e.rope) + e.nope)] = 1;
      e.pe[static_cast<std::size_t>(t * e.rope)] = t == 20 || t == 50 ? far / 0.3f : 0;
    }
    return e.run(GetParam());
  };
  const auto small = run(-65);
  // Below the normal numbers and below all numbers.
  for (const float far : {-88.0f, -95.0f, -1000.0f}) {
    const auto tiny = run(far);
    EXPECT_EQ(std::memcmp(small.data(), tiny.data(), small.size() * sizeof(float)), 0) << far;
  }
}

TEST_P(Attention, KeysMayBePackedInChunksOfAnyLength) {
  const Expanded e(30, 500, 20, 40);
  const auto whole = e.run(GetParam());
  for (const Index chunk : {1, 7, 33, 100, 300}) {
    const auto chunks = e.run(GetParam(), 0, -1, chunk);
    ASSERT_EQ(std::memcmp(chunks.data(), whole.data(), whole.size() * sizeof(float)), 0) << chunk;
  }
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  for (const float y : Expanded(3, 2, 4, 4, 300).run(GetParam())) EXPECT_TRUE(std::isfinite(y));
}

struct Absorbed {
  Index keys, heads, latent, rope;
  std::vector<float> q, pe, cache;

  Absorbed(Index keys_, Index heads_, Index latent_, Index rope_)
      : keys(keys_), heads(heads_), latent(latent_), rope(rope_) {
    q = values(heads * latent, 12);
    pe = values(heads * rope, 13);
    cache = values(keys * (latent + rope), 11);
  }
  AbsorbedAttentionArgs args(std::vector<float>& out) const {
    out.assign(static_cast<std::size_t>(heads * latent), kPoison);
    AbsorbedAttentionArgs a;
    a.q_latent = q.data();
    a.q_latent_head_stride = latent;
    a.q_pe = pe.data();
    a.q_pe_head_stride = rope;
    a.cache = cache.data();
    a.cache_stride = latent + rope;
    a.out = out.data();
    a.out_head_stride = latent;
    a.latent = latent;
    a.rope = rope;
    a.first_position = keys - 1;
    a.scale = 0.3f;
    return a;
  }
  std::vector<float> run(Isa isa) const {
    std::vector<float> out;
    const AbsorbedAttentionArgs a = args(out);
    const AttentionKernels& k = attention_kernels(isa);
    const Tensor packed = poisoned(k.packed_query_floats(a, heads)),
                 scratch = poisoned(k.absorbed_scratch_floats(heads));
    k.pack_query(a, 0, heads, packed->data<float>());
    const Index blocks = (keys + kAbsorbedBlock - 1) / kAbsorbedBlock;
    const Tensor largest = poisoned(blocks * heads), sum = poisoned(blocks * heads),
                 parts = poisoned(blocks * heads * latent);
    for (Index b = 0; b < blocks; ++b) {
      AbsorbedBlockArgs block;
      block.q = packed->data<float>();
      block.entry_stride = latent + rope;
      block.entries = cache.data() + b * kAbsorbedBlock * block.entry_stride;
      block.keys = std::min(kAbsorbedBlock, keys - b * kAbsorbedBlock);
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
              heads * latent, blocks, latent, &out[static_cast<std::size_t>(h * latent)]);
    return out;
  }
};

TEST_P(Attention, AbsorbedAgreesWithTheReferenceAndHasTheSameBitsOnEveryInstructionSet) {
  for (const Index keys : {1, 2, 7, 128, 129, 400})
    for (const Index heads : {2, 16, 20})
      for (const auto& [latent, rope] : {std::pair<Index, Index>{30, 6}, {64, 16}, {72, 8}}) {
        const Absorbed p(keys, heads, latent, rope);
        std::vector<float> expected, scores(static_cast<std::size_t>(keys + 8));
        const AbsorbedAttentionArgs a = p.args(expected);
        for (Index h = 0; h < heads; ++h) ref::attend_absorbed(a, 0, h, scores.data());
        const auto got = p.run(GetParam());
        ASSERT_LE(worst(got, expected), 3e-6) << keys << " " << heads << " " << latent;
        const auto avx2 = p.run(Isa::kAvx2);
        ASSERT_EQ(std::memcmp(avx2.data(), got.data(), got.size() * sizeof(float)), 0)
            << keys << " " << heads << " " << latent;
      }
}

TEST_P(Attention, CacheEntriesAreUnpackedExactly) {
  const AttentionKernels& k = attention_kernels(GetParam());
  for (const auto& [latent, rope] : {std::pair<Index, Index>{30, 6}, {256, 64}}) {
    const auto x = values(latent + rope, 20);
    std::vector<bf16> stored;
    for (const float v : x) stored.push_back(float_to_bf16(v));
    std::vector<float> got(x.size(), kPoison);
    k.unpack(stored.data(), DType::kBF16, latent, rope, 0, 0, got.data());
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(got[i], bf16_to_float(stored[i]));

    const Index scales_at = (latent + 3) / 4 * 4, rope_at = scales_at + 4 * ((latent + 127) / 128);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rope_at + 2 * rope));
    for (Index c = 0; c < latent; ++c)
      bytes[static_cast<std::size_t>(c)] = static_cast<std::uint8_t>(c * 37 % 127 | (c % 2) << 7);
    for (Index g = 0; g * 128 < latent; ++g) {
      const float scale = 0.37f + static_cast<float>(g);
      std::memcpy(&bytes[static_cast<std::size_t>(scales_at + 4 * g)], &scale, 4);
    }
    std::memcpy(&bytes[static_cast<std::size_t>(rope_at)], &stored[static_cast<std::size_t>(latent)],
                static_cast<std::size_t>(2 * rope));
    k.unpack(bytes.data(), DType::kU8, latent, rope, scales_at, rope_at, got.data());
    for (Index c = 0; c < latent; ++c)
      ASSERT_EQ(got[static_cast<std::size_t>(c)],
                e4m3_to_float({bytes[static_cast<std::size_t>(c)]}) * (0.37f + static_cast<float>(c / 128)));
    for (Index c = latent; c < latent + rope; ++c)
      ASSERT_EQ(got[static_cast<std::size_t>(c)], bf16_to_float(stored[static_cast<std::size_t>(c)]));
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, Attention, ::testing::Values(Isa::kAvx2, Isa::kAvx512),
                         [](const auto& p) { return std::string(isa_name(p.param)); });

}  // namespace
}  // namespace attention_test
}  // namespace hadal::kernels
