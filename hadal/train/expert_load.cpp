#include "hadal/train/expert_load.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace hadal::train {
namespace {

LayerLoad load_of(Index layer, const std::vector<Index>& counts) {
  LayerLoad l;
  l.layer = layer;
  l.counts = counts;
  const auto sum = static_cast<double>(std::accumulate(counts.begin(), counts.end(), Index{0}));
  const auto most = static_cast<double>(*std::max_element(counts.begin(), counts.end()));
  const double mean = sum / static_cast<double>(counts.size());
  l.max_vio = mean > 0 ? (most - mean) / mean : 0;
  l.dead = std::count(counts.begin(), counts.end(), Index{0});
  return l;
}

std::vector<const Parameter*> routing_biases(const Parameters& parameters) {
  std::vector<const Parameter*> out;
  for (const Parameter& p : parameters.all())
    if (p.info.role == weights::ParamRole::kRouterBias) out.push_back(&p);
  return out;
}

}  // namespace

std::vector<LayerLoad> expert_loads(const config::Config& config, const Parameters& parameters,
                                    const ExpertCounts& counts) {
  const std::vector<const Parameter*> biases = routing_biases(parameters);
  std::vector<LayerLoad> out;
  for (Index layer = 0; layer < config.num_stored_layers() && out.size() < counts.size(); ++layer) {
    if (!config.is_moe_layer(layer)) continue;
    LayerLoad l = load_of(layer, counts[out.size()]);
    if (out.size() < biases.size()) {
      const auto* b = biases[out.size()]->value->data<float>();
      const auto [low, high] = std::minmax_element(b, b + l.counts.size());
      l.bias_low = double{*low}, l.bias_high = double{*high};
    }
    out.push_back(std::move(l));
  }
  return out;
}

double mean_max_vio(const std::vector<LayerLoad>& load) {
  if (load.empty()) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  for (const LayerLoad& l : load) sum += l.max_vio;
  return sum / static_cast<double>(load.size());
}

ExpertCounter::ExpertCounter(const config::Config& config) {
  for (Index layer = 0; layer < config.num_hidden_layers; ++layer) {
    const bool has_experts = config.is_moe_layer(layer);
    place_.push_back(has_experts ? static_cast<Index>(counts_.size()) : -1);
    if (has_experts) counts_.emplace_back(config.n_routed_experts, 0);
  }
}

void ExpertCounter::on_boundary(Index layer) {
  if (layer >= 0) layer_ = layer;
}

void ExpertCounter::on_value(std::string_view name, const ConstTensorRef& value) {
  if (name != "topk_idx" || layer_ < 0 || layer_ >= static_cast<Index>(place_.size())) return;
  const Index place = place_[static_cast<std::size_t>(layer_)];
  if (place < 0) return;
  std::vector<Index>& counts = counts_[static_cast<std::size_t>(place)];
  const std::int32_t* experts = value.data<std::int32_t>();
  for (Index i = 0; i < value.num_elements(); ++i) ++counts[static_cast<std::size_t>(experts[i])];
}

}  // namespace hadal::train
