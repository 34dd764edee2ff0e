// Small models with random weights in double, whose layers are run one by one: for tests of backward passes.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "hadal/core/random.h"
#include "hadal/train/micro_batch.h"
#include "hadal/train/parameters.h"

namespace hadal::train::harness {

using model::BatchRows;

inline nlohmann::ordered_json v3_json() {
  return {{"model_type", "deepseek_v3"},
          {"vocab_size", 37},
          {"hidden_size", 24},
          {"intermediate_size", 20},
          {"moe_intermediate_size", 12},
          {"num_hidden_layers", 2},
          {"first_k_dense_replace", 1},
          {"num_attention_heads", 3},
          {"q_lora_rank", 10},
          {"kv_lora_rank", 9},
          {"qk_nope_head_dim", 6},
          {"qk_rope_head_dim", 4},
          {"v_head_dim", 5},
          {"n_routed_experts", 8},
          {"n_shared_experts", 1},
          {"num_experts_per_tok", 3},
          {"n_group", 4},
          {"topk_group", 2},
          {"topk_method", "noaux_tc"},
          {"scoring_func", "sigmoid"},
          {"norm_topk_prob", true},
          {"routed_scaling_factor", 2.5},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 100.0},
          {"max_position_embeddings", 64},
          {"num_nextn_predict_layers", 2},
          {"hidden_act", "silu"}};
}
inline config::Config v3() {
  return config::parse_config(v3_json(), "the test");
}
// DeepSeek-V2: a softmax gate whose weights are not normalised, no query compression, YaRN.
inline config::Config v2() {
  nlohmann::ordered_json j = v3_json();
  j["model_type"] = "deepseek_v2";
  j["topk_method"] = "group_limited_greedy";
  j["scoring_func"] = "softmax";
  j["norm_topk_prob"] = false;
  j["num_nextn_predict_layers"] = 0;
  j["q_lora_rank"] = nullptr;
  j["rope_scaling"] = {{"type", "yarn"},       {"factor", 4.0},  {"original_max_position_embeddings", 8},
                       {"beta_fast", 32},      {"beta_slow", 1}, {"mscale", 0.7},
                       {"mscale_all_dim", 0.7}};
  return config::parse_config(j, "the test");
}

inline double draw(std::uint64_t seed, std::uint64_t i) {
  const std::uint64_t x = (seed * 0x9E3779B97F4A7C15u + i + 1) * 0xBF58476D1CE4E5B9u;
  return static_cast<double>((x ^ x >> 29) * 0x94D049BB133111EBu >> 11) * 0x1p-53 * 2 - 1;
}
inline void fill(const TensorRef& t, std::uint64_t seed, double size, double around = 0) {
  for (Index i = 0; i < t.num_elements(); ++i)
    t.data<double>()[i] = around + size * draw(seed, static_cast<std::uint64_t>(i));
}

class Harness {
 public:
  explicit Harness(const config::Config& c) : model(c), parameters(model, Precision::kF64) {
    std::uint64_t seed = 1;
    for (Parameter& p : parameters.all()) {
      ++seed;
      if (p.bound)
        for (Index e = 0; e < p.bound.size(0); ++e)
          p.bound->data<float>()[e] = static_cast<float>(0.1 * draw(seed, static_cast<std::uint64_t>(e)));
      else
        fill(p.value, seed, p.info.role == weights::ParamRole::kNorm ? 0.3 : 0.4,
             p.info.role == weights::ParamRole::kNorm ? 1 : 0);
    }
  }

  BatchRows rows(std::vector<Index> lengths) {
    BatchRows r;
    std::vector<Index> positions;
    Index at = 0;
    for (const Index n : lengths) {
      r.sequences.push_back({at, at + n});
      for (Index i = 0; i < n; ++i) positions.push_back(i);
      at += n;
    }
    r.attended = r.sequences;
    r.rope = ops::rope_table(kept, model.rotary.inv_freq, positions, model.rotary.magnitude);
    return r;
  }
  TensorRef input(Index tokens, std::uint64_t seed) {
    const TensorRef x = kept.workspace.tensor(DType::kF64, {tokens, model.config.hidden_size});
    fill(x, seed, 1);
    return x;
  }
  // What the loss weighs an output with: its gradient.
  TensorRef weighting(const Shape& shape) {
    const TensorRef r = kept.workspace.tensor(DType::kF64, shape);
    fill(r, 99, 1);
    return r;
  }
  static double weighed(const ConstTensorRef& y, const ConstTensorRef& weighting) {
    double sum = 0;
    for (Index i = 0; i < y.num_elements(); ++i) sum += y.data<double>()[i] * weighting.data<double>()[i];
    return sum;
  }

  // d loss / d value by differences at some elements, the first and the last among them.
  void expect(const std::string& what, const std::function<double()>& loss, const TensorRef& value,
              const ConstTensorRef& gradient) {
    const Index n = value.num_elements(), step = std::max<Index>(1, n / 7);
    double largest = 1e-3;
    for (Index i = 0; i < n; ++i) largest = std::max(largest, std::abs(gradient.data<double>()[i]));
    for (Index i = 0; i < n; i = i + step < n || i == n - 1 ? i + step : n - 1) {
      double& x = value.data<double>()[i];
      const double before = x, h = 1e-5;
      x = before + h;
      const double up = loss();
      x = before - h;
      const double down = loss();
      x = before;
      EXPECT_NEAR(gradient.data<double>()[i], (up - down) / (2 * h), 2e-7 * largest) << what << " element " << i;
      ++checked;
    }
  }
  // All parameters whose names begin with `prefix`.
  void expect_parameters(const std::string& prefix, const std::function<double()>& loss) {
    for (Parameter& p : parameters.all())
      if (p.grad && p.name.starts_with(prefix)) expect(p.name, loss, p.value, p.grad);
  }

  Context ctx{1, Isa::kRef};
  Workspace saved;
  Context kept = ctx.with(saved);
  model::Transformer model;
  Parameters parameters;
  int checked = 0;
};

// Ids, and targets that are not them, some ignored.
inline Batch batch_of(Index sequences, Index length, Index vocab_size) {
  Batch b{sequences, length, {}, {}};
  for (Index i = 0; i < sequences * length; ++i) {
    b.ids.push_back(static_cast<TokenId>((i * 7 + i * i) % vocab_size));
    b.targets.push_back(i % 5 == 3 ? kIgnored : static_cast<TokenId>((i * 11 + 5) % vocab_size));
  }
  return b;
}

inline Losses run(Harness& h, const Batch& batch, Index micro_batch, bool recompute = false) {
  MicroBatch step(h.model, recompute);
  const Denominators den = denominators(batch, static_cast<Index>(h.model.mtp.size()));
  Losses losses;
  h.parameters.clear_gradients(h.ctx);
  for (Index begin = 0; begin < batch.sequences; begin += micro_batch)
    step.run(h.ctx, batch.part(begin, std::min(begin + micro_batch, batch.sequences)),
             {.mtp_weight = 0.4, .balance = 0.3}, den, losses);
  return losses;
}

// Every gradient as it is now, in the order of the parameters; those without one are empty.
inline std::vector<Tensor> gradients_of(const Harness& h) {
  std::vector<Tensor> gradients;
  for (const Parameter& p : h.parameters.all()) gradients.push_back(p.grad ? Tensor::copy_of(p.grad) : Tensor());
  return gradients;
}
inline double largest_difference(const ConstTensorRef& a, const ConstTensorRef& b) {
  EXPECT_EQ(a.shape(), b.shape());
  double most = 0;
  for (Index i = 0; i < a.num_elements(); ++i)
    most = std::max(most, std::abs(a.data<double>()[i] - b.data<double>()[i]));
  return most;
}
inline double largest_difference(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  EXPECT_EQ(a.size(), b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i]) most = std::max(most, largest_difference(a[i].ref(), b[i].ref()));
  return most;
}

}  // namespace hadal::train::harness
