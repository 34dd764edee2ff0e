#include "hadal/train/estimate.h"

#include <algorithm>

#include "hadal/io/free_memory.h"
#include "hadal/model/transformer.h"
#include "hadal/train/flops.h"
#include "hadal/train/model_files.h"
#include "hadal/train/muon.h"
#include "hadal/train/training_data.h"

namespace hadal::train {
namespace {

using config::Config;

constexpr std::uint64_t kFloat = 4;
constexpr std::uint64_t kLogitChunk = std::uint64_t{8} << 20;  // ops::cross_entropy
// Program, its libraries, a thread's stack and what is read of the data at a time.
constexpr std::uint64_t kProgram = std::uint64_t{32} << 20;
constexpr std::uint64_t kTokenBytes = 2 * 3 * 4;  // ids, targets and documents of a step, and of the next one

// Floats a token that a layer keeps for its backward pass; names as in the layers' Saved.
struct LayerFloats {
  Index kept = 0, scratch = 0;
};

Index q_width(const Config& c) { return c.num_attention_heads * c.qk_head_dim(); }
Index kv_width(const Config& c) { return c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim); }
Index q_latent(const Config& c) { return c.q_lora_rank.value_or(0); }

// c_q, q before and after its rotation, its rotated part, c_kv, keys and values.
Index up_projected(const Config& c) {
  return q_latent(c) + (c.q_lora_rank ? q_width(c) : 0) + c.num_attention_heads * c.qk_rope_head_dim + q_width(c) +
         c.kv_lora_rank + kv_width(c);
}

LayerFloats attention_floats(const Config& c, bool recompute) {
  const Index heads = c.num_attention_heads, rope = c.qk_rope_head_dim;
  LayerFloats f;
  f.kept = (c.q_lora_rank ? q_latent(c) : q_width(c)) + c.kv_cache_width() + rope + heads * c.v_head_dim + heads;
  // The gradients of the same.
  f.scratch = heads * c.v_head_dim + 2 * q_width(c) + kv_width(c) + 2 * heads * rope + 2 * q_latent(c) +
              3 * c.kv_lora_rank + 3 * rope + 3 * c.hidden_size;
  (recompute ? f.scratch : f.kept) += up_projected(c);
  return f;
}

LayerFloats feed_forward_floats(const Config& c, Index layer) {
  const Index d = c.hidden_size;
  if (!c.is_moe_layer(layer)) return {2 * c.intermediate_size, 4 * c.intermediate_size + d};
  const Index k = c.num_experts_per_tok, routed = k * c.moe_intermediate_size;
  const Index shared = c.n_shared_experts * c.moe_intermediate_size;
  return {c.n_routed_experts + 2 * k + 2 * routed + 2 * shared,
          k * d + 4 * routed + 4 * shared + c.n_routed_experts + 4 * k + 3 * d};
}

LayerFloats block_floats(const Config& c, Index layer, bool recompute) {
  const LayerFloats attention = attention_floats(c, recompute), ffn = feed_forward_floats(c, layer);
  LayerFloats f{attention.kept + ffn.kept + 2 * c.hidden_size + 2,
                attention.scratch + ffn.scratch + 3 * c.hidden_size};
  (recompute ? f.scratch : f.kept) += 2 * c.hidden_size;
  return f;
}

// Of a token: embedding, final norm, gradients of the residual stream, the tables of rope; for MTP what its block is
// given, too.
Index outside_floats(const Config& c, bool mtp) {
  const Index d = c.hidden_size;
  return mtp ? 9 * d + 2 * c.qk_rope_head_dim : 5 * d + 2 * c.qk_rope_head_dim;
}

struct Activations {
  std::uint64_t kept = 0, scratch = 0;
};

Activations activations(const Config& c, Index tokens, bool recompute) {
  Activations a;
  const auto bytes = [&](Index floats) { return static_cast<std::uint64_t>(floats * tokens) * kFloat; };
  a.kept = bytes(outside_floats(c, false));
  for (Index layer = 0; layer < c.num_stored_layers(); ++layer) {
    const LayerFloats f = block_floats(c, layer, recompute);
    const bool mtp = layer >= c.num_hidden_layers;
    a.kept += bytes(f.kept + (mtp ? outside_floats(c, true) : 0));
    a.scratch = std::max(a.scratch, bytes(f.scratch + (mtp ? 5 * c.hidden_size : 0)));
  }
  return a;
}

std::string size_text(std::uint64_t bytes) {
  const double mib = static_cast<double>(bytes) / 1048576;
  return mib >= 10240 ? fmt::format("{:.1f} GiB", mib / 1024) : fmt::format("{:.1f} MiB", mib);
}

std::string count_text(double n) {
  if (n >= 1e12) return fmt::format("{:.2f}T", n * 1e-12);
  if (n >= 1e9) return fmt::format("{:.2f}G", n * 1e-9);
  return n >= 1e6 ? fmt::format("{:.2f}M", n * 1e-6) : fmt::format("{:.0f}", n);
}

std::string time_text(double seconds) {
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return seconds < 172800 ? fmt::format("{:.1f} h", seconds / 3600) : fmt::format("{:.1f} days", seconds / 86400);
}

}  // namespace

std::uint64_t RunEstimate::bytes() const {
  std::uint64_t sum = 0;
  for (const Item& item : memory) sum += item.bytes;
  return sum;
}

RunEstimate estimate_run(const TrainConfig& t) {
  const Config c = model_config(t.model.config, t.model.init_from);
  const RunSchedule schedule = run_schedule(t);
  RunEstimate e;
  const bool muon = t.optimizer.kind == "muon";
  std::uint64_t orthogonal = 0, updates = 0, largest_update = 0;  // Muon's parameters, and what a step takes for them
  for (const weights::ParamSpec& p : model::parameter_list(c)) {
    if (p.info.optional) continue;
    const auto count = static_cast<std::uint64_t>(p.info.shape.num_elements());
    e.parameters += count;
    if (muon && Muon::is_for(p.info)) {
      const Index n = std::min(p.info.shape[0], p.info.shape[1]);
      const std::uint64_t bytes = (2 * count + static_cast<std::uint64_t>(2 * n * n)) * kFloat;
      orthogonal += count;
      updates += bytes, largest_update = std::max(largest_update, bytes);
    }
    e.active_parameters +=
        p.info.routed_expert ? count * static_cast<std::uint64_t>(c.num_experts_per_tok) /
                                   static_cast<std::uint64_t>(c.n_routed_experts)
                             : count;
  }
  const Index micro = t.batch.micro_batch > 0 ? std::min(t.batch.micro_batch, schedule.most_sequences())
                                              : schedule.most_sequences();
  const Activations a = activations(c, micro * schedule.longest(), t.recompute);
  const std::uint64_t values = e.parameters * kFloat;
  const std::uint64_t moments = (2 * e.parameters - orthogonal) * (t.optimizer.moments == "bf16" ? kFloat / 2 : kFloat);
  const std::uint64_t update = std::min(updates, std::max(Muon::kUpdateBytes, largest_update));
  const std::uint64_t ema = t.ema_decay > 0 ? values : 0;
  const auto tokens = static_cast<std::uint64_t>(schedule.most_sequences() * schedule.longest());
  e.memory = {{"parameters (f32)", values},
              {"copy of the parameters (bf16)", t.precision == "bf16" ? values / 2 : 0},
              {"gradients (f32)", values},
              {"moments (" + t.optimizer.moments + ")", moments},
              {"average of the weights", ema},
              {"activations saved for the backward pass", a.kept},
              {"gradients of activations, logits in chunks", std::max({a.scratch, kLogitChunk, update})},
              {"copy of the state while a checkpoint is written", values + moments + ema},
              {"program, tokenizer, data", kProgram + tokens * kTokenBytes}};
  std::erase_if(e.memory, [](const RunEstimate::Item& item) { return item.bytes == 0; });
  e.flops_per_token = flops_per_token(c, schedule.longest());
  e.flops_per_step = e.flops_per_token * static_cast<double>(schedule.most_sequences() * schedule.longest());
  e.flops = e.flops_per_token * static_cast<double>(schedule.total_tokens);
  return e;
}

void check_memory(const RunEstimate& e) {
  const std::uint64_t free = io::free_memory();
  HADAL_CHECK(free == 0 || e.bytes() <= free,
              "train: the run needs {} of memory, {} are free; a smaller batch.micro_batch, recompute = true or "
              "optimizer.moments = \"bf16\" take less, `--dry-run` itemises it",
              size_text(e.bytes()), size_text(free));
}

std::string describe_estimate(const TrainConfig& t, const RunEstimate& e, double fma_rate) {
  const RunSchedule s = run_schedule(t);
  std::string text = fmt::format("{} parameters, {} of them active for a token\n{} steps, {} tokens\n\nmemory\n",
                                 count_text(static_cast<double>(e.parameters)),
                                 count_text(static_cast<double>(e.active_parameters)), s.total_steps,
                                 count_text(static_cast<double>(s.total_tokens)));
  for (const RunEstimate::Item& item : e.memory) text += fmt::format("  {:<48} {:>12}\n", item.what, size_text(item.bytes));
  text += fmt::format("  {:<48} {:>12}\n", "together, at the most", size_text(e.bytes()));
  if (const std::uint64_t free = io::free_memory(); free > 0)
    text += fmt::format("  {:<48} {:>12}{}\n", "free on this machine", size_text(free),
                        free < e.bytes() ? ": not enough" : "");
  text += fmt::format("\nwork\n  {} floating-point operations a token, {} a step, {} in all\n",
                      count_text(e.flops_per_token), count_text(e.flops_per_step), count_text(e.flops));
  if (fma_rate > 0)
    text += fmt::format("  {:.1f} GFLOP/s of multiply-adds on this machine: at half of that {:.0f} tokens a second, {} in all\n",
                        fma_rate * 1e-9, fma_rate / 2 / e.flops_per_token, time_text(2 * e.flops / fma_rate));
  return text;
}

}  // namespace hadal::train
