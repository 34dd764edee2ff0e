#include "hadal/train/flops.h"

namespace hadal::train {
namespace {

double product(Index in, Index out) { return 2 * static_cast<double>(in) * static_cast<double>(out); }

double attention(const config::Config& c, Index length) {
  const Index heads = c.num_attention_heads;
  const double q = c.q_lora_rank ? product(c.hidden_size, *c.q_lora_rank) +
                                       product(*c.q_lora_rank, heads * c.qk_head_dim())
                                 : product(c.hidden_size, heads * c.qk_head_dim());
  const double seen = static_cast<double>(length + 1) / 2;
  return q + product(c.hidden_size, c.kv_cache_width()) +
         product(c.kv_lora_rank, heads * (c.qk_nope_head_dim + c.v_head_dim)) +
         product(heads * c.v_head_dim, c.hidden_size) + product(heads, c.qk_head_dim() + c.v_head_dim) * seen;
}

double feed_forward(const config::Config& c, Index layer) {
  if (!c.is_moe_layer(layer)) return 3 * product(c.hidden_size, c.intermediate_size);
  const Index experts = c.num_experts_per_tok + c.n_shared_experts;
  return product(c.hidden_size, c.n_routed_experts) + 3 * product(c.hidden_size, experts * c.moe_intermediate_size);
}

}  // namespace

double flops_per_token(const config::Config& c, Index length) {
  double forward = product(c.hidden_size, c.vocab_size);
  for (Index layer = 0; layer < c.num_stored_layers(); ++layer) {
    forward += attention(c, length) + feed_forward(c, layer);
    if (layer >= c.num_hidden_layers) forward += product(2 * c.hidden_size, c.hidden_size) + product(c.hidden_size, c.vocab_size);
  }
  return 3 * forward;
}

}  // namespace hadal::train
