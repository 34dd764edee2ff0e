#include "hadal/perf/phase_times.h"

#include <chrono>
#include <utility>

namespace hadal::perf {
namespace {

constexpr std::pair<std::string_view, Phase> kEnds[] = {
    {"embedding", Phase::kEmbedding},
    {"attn_norm", Phase::kNorms},
    {"q", Phase::kProjections},
    {"k_rope", Phase::kNorms},
    {"keys_values", Phase::kProjections},
    {"heads_out", Phase::kAttention},
    {"q_absorbed", Phase::kProjections},
    {"latent_out", Phase::kAttention},
    {"expanded_out", Phase::kProjections},
    {"attn_out", Phase::kProjections},
    {"ffn_norm", Phase::kNorms},
    {"topk_weight", Phase::kNorms},
    {"moe_out", Phase::kExperts},
    {"mlp_out", Phase::kFeedForward},
    {"hidden", Phase::kNorms},
    {"final_norm", Phase::kNorms},
    {"logits", Phase::kHead},
    {"sampled", Phase::kSampling},
};

}  // namespace

Phase phase_ended_by(std::string_view name) {
  for (const auto& [end, phase] : kEnds)
    if (end == name) return phase;
  return Phase::kOther;
}

void PhaseTimes::on_value(std::string_view name, const ConstTensorRef&) {
  const Phase phase = phase_ended_by(name);
  if (phase != Phase::kOther) charge(phase);
}

double PhaseTimes::steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void PhaseTimes::charge(Phase phase) {
  const double now = clock_();
  seconds_[static_cast<std::size_t>(phase)] += now - since_;
  since_ = now;
}

}  // namespace hadal::perf
