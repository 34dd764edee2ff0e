#include "hadal/kernels/attention.h"

#include <algorithm>
#include <cmath>

#include "hadal/core/number_formats.h"
#include "hadal/kernels/elementwise.h"

namespace hadal::kernels::ref {
namespace {

constexpr Index kScaled = 128;  // values of a latent that share a scale

double dot(const float* a, const float* b, Index n) {
  double sum = 0;
  for (Index i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return sum;
}

// Returns the logarithm of the sum of exp(score).
double softmax(float* scores, Index n) {
  const float largest = *std::max_element(scores, scores + n);
  double sum = 0;
  for (Index j = 0; j < n; ++j) sum += std::exp(double{scores[j]} - largest);
  for (Index j = 0; j < n; ++j) scores[j] = static_cast<float>(std::exp(double{scores[j]} - largest) / sum);
  return largest + std::log(sum);
}

void weighted_sum(const float* p, Index n, const float* values, Index stride, Index width, float* out) {
  for (Index d = 0; d < width; ++d) {
    double sum = 0;
    for (Index j = 0; j < n; ++j) sum += double{p[j]} * values[j * stride + d];
    out[d] = static_cast<float>(sum);
  }
}

}  // namespace

// In a block a head has rows of keys, then rows of values.
void pack_keys(const NewKeysArgs& a, Index head, Index begin, Index end, const KeyBlock& to) {
  const Index depth = a.nope + a.rope;
  for (Index j = begin; j < end; ++j) {
    const float* kv = a.kv + (j - a.begin) * a.kv_token_stride + head * a.kv_head_stride;
    float* key = to.head(head) + j % kExpandedBlock * depth;
    std::copy_n(kv, a.nope, key);
    std::copy_n(a.k_pe + (j - a.begin) * a.k_pe_stride, a.rope, key + a.nope);
    std::copy_n(kv + a.nope, a.v, to.head(head) + to.room * depth + j % kExpandedBlock * a.v);
  }
}

void attend_expanded(const ExpandedAttentionArgs& a, Index token, Index head, float* scores) {
  const Index n = a.first_position + token + 1, depth = a.nope + a.rope;
  const float* q = a.q + token * a.q_token_stride + head * a.q_head_stride;
  const auto block = [&](Index j) -> const KeyBlock& { return a.keys[static_cast<std::size_t>(j / kExpandedBlock)]; };
  for (Index j = 0; j < n; ++j) {
    const float* key = block(j).head(head) + j % kExpandedBlock * depth;
    scores[j] = static_cast<float>((dot(q, key, a.nope) + dot(q + a.nope, key + a.nope, a.rope)) * a.scale);
  }
  const double lse = softmax(scores, n);
  if (a.lse) a.lse[token * a.lse_token_stride + head] = static_cast<float>(lse);
  float* out = a.out + token * a.out_token_stride + head * a.out_head_stride;
  for (Index d = 0; d < a.v; ++d) {
    double sum = 0;
    for (Index j = 0; j < n; ++j)
      sum += double{scores[j]} * block(j).head(head)[block(j).room * depth + j % kExpandedBlock * a.v + d];
    out[d] = static_cast<float>(sum);
  }
}

void attend_absorbed(const AbsorbedAttentionArgs& a, Index token, Index head, float* scores) {
  const Index n = a.first_position + token + 1;
  const float* q = a.q_latent + token * a.q_latent_token_stride + head * a.q_latent_head_stride;
  const float* q_pe = a.q_pe + token * a.q_pe_token_stride + head * a.q_pe_head_stride;
  for (Index j = 0; j < n; ++j) {
    const float* entry = a.cache + j * a.cache_stride;
    scores[j] = static_cast<float>((dot(q, entry, a.latent) + dot(q_pe, entry + a.latent, a.rope)) * a.scale);
  }
  softmax(scores, n);
  weighted_sum(scores, n, a.cache, a.cache_stride, a.latent,
               a.out + token * a.out_token_stride + head * a.out_head_stride);
}

void pack_entry(const float* values, Index latent, Index rope, Index scales_at, Index rope_at, void* stored) {
  auto* bytes = static_cast<std::uint8_t*>(stored);
  auto* scales = reinterpret_cast<float*>(bytes + scales_at);
  auto* pe = reinterpret_cast<bf16*>(bytes + rope_at);
  for (Index begin = 0; begin < latent; begin += kScaled)
    scales[begin / kScaled] =
        quantize_tile(values + begin, bytes + begin, nullptr, std::min(kScaled, latent - begin), false);
  for (Index i = 0; i < rope; ++i) pe[i] = float_to_bf16(values[latent + i]);
}

void unpack_entry(const void* stored, Index latent, Index rope, Index scales_at, Index rope_at, float* values) {
  const auto* bytes = static_cast<const std::uint8_t*>(stored);
  const auto* scales = reinterpret_cast<const float*>(bytes + scales_at);
  const auto* pe = reinterpret_cast<const bf16*>(bytes + rope_at);
  for (Index i = 0; i < latent; ++i) values[i] = e4m3_to_float({bytes[i]}) * scales[i / kScaled];
  for (Index i = 0; i < rope; ++i) values[latent + i] = bf16_to_float(pe[i]);
}

}  // namespace hadal::kernels::ref
