// Every layer's backward pass against finite differences, in double: the loss is a fixed random weighting of the layer's
// output, and every input and parameter is moved a little both ways.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "hadal/core/random.h"
#include "hadal/train/micro_batch.h"
#include "hadal/train/parameters.h"

namespace hadal::train {
namespace finite_differences_test {
namespace {

using model::Block;
using model::BatchRows;
using model::Keep;

nlohmann::ordered_json v3_json() {
  return {{"model_type", "deepseek_v3"}, {"vocab_size", 37},          {"hidden_size", 24},
          {"intermediate_size", 20},     {"moe_intermediate_size", 12}, {"num_hidden_layers", 2},
          {"first_k_dense_replace", 1},  {"num_attention_heads", 3},  {"q_lora_rank", 10},
          {"kv_lora_rank", 9},           {"qk_nope_head_dim", 6},     {"qk_rope_head_dim", 4},
          {"v_head_dim", 5},             {"n_routed_experts", 8},     {"n_shared_experts", 1},
          {"num_experts_per_tok", 3},    {"n_group", 4},              {"topk_group", 2},
          {"topk_method", "noaux_tc"},   {"scoring_func", "sigmoid"}, {"norm_topk_prob", true},
          {"routed_scaling_factor", 2.5}, {"rms_norm_eps", 1e-6},     {"rope_theta", 100.0},
          {"max_position_embeddings", 64}, {"num_nextn_predict_layers", 2}, {"hidden_act", "silu"}};
}
config::Config v3() {
  return config::parse_config(v3_json(), "the test");
}
// DeepSeek-V2: a softmax gate whose weights are not normalised, no query compression, YaRN.
config::Config v2() {
  nlohmann::ordered_json j = v3_json();
  j["model_type"] = "deepseek_v2";
  j["topk_method"] = "group_limited_greedy";
  j["scoring_func"] = "softmax";
  j["norm_topk_prob"] = false;
  j["num_nextn_predict_layers"] = 0;
  j["q_lora_rank"] = nullptr;
  j["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 8}, {"beta_fast", 32},
                       {"beta_slow", 1}, {"mscale", 0.7},  {"mscale_all_dim", 0.7}};
  return config::parse_config(j, "the test");
}

double draw(std::uint64_t seed, std::uint64_t i) {
  const std::uint64_t x = (seed * 0x9E3779B97F4A7C15u + i + 1) * 0xBF58476D1CE4E5B9u;
  return static_cast<double>((x ^ x >> 29) * 0x94D049BB133111EBu >> 11) * 0x1p-53 * 2 - 1;
}
void fill(const TensorRef& t, std::uint64_t seed, double size, double around = 0) {
  for (Index i = 0; i < t.num_elements(); ++i)
    t.data<double>()[i] = around + size * draw(seed, static_cast<std::uint64_t>(i));
}

class Harness {
 public:
  explicit Harness(const config::Config& c) : model(c), parameters(model, DType::kF64) {
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

// The verbs of a Block, an attention and a feed-forward of every kind among them.
void check_block(const config::Config& c, Index layer, bool recompute) {
  Harness h(c);
  const Keep keep{h.kept, recompute};
  const Block& block = h.model.layers[static_cast<std::size_t>(layer)];
  const BatchRows rows = h.rows({5, 3});
  const TensorRef x = h.input(8, 7), r = h.weighting(x.shape());
  constexpr double kBalance = 0.7;
  const auto loss = [&] {
    const Workspace::Scope scope(h.saved);
    Block::Saved saved;
    const double of_output = Harness::weighed(block.forward(h.ctx, x, rows, keep, saved), r);
    return of_output + kBalance * saved.moe.balance;
  };
  Block::Saved saved;
  Block::Deltas deltas;
  block.forward(h.ctx, x, rows, keep, saved);
  const TensorRef dx = block.backward_input(h.ctx, r, rows, kBalance, saved, deltas);
  block.backward_weight(h.ctx, saved, deltas);
  h.expect("x", loss, x, dx);
  h.expect_parameters("model.layers." + std::to_string(layer) + ".", loss);
  EXPECT_GT(h.checked, 100);
}

TEST(FiniteDifferences, ADenseBlock) { check_block(v3(), 0, false); }
TEST(FiniteDifferences, AMixtureWithGroupsAndNormalisedSigmoidWeights) { check_block(v3(), 1, false); }
TEST(FiniteDifferences, AMixtureWithSoftmaxWeightsAsTheyAreAndYarn) { check_block(v2(), 1, false); }
TEST(FiniteDifferences, WhatIsMadeAgain) { check_block(v3(), 1, true); }

TEST(FiniteDifferences, AnMtpModule) {
  Harness h(v3());
  const Keep keep{h.kept, false};
  const BatchRows rows = h.rows({4, 4});
  const TensorRef embedded = h.input(8, 7), previous = h.input(8, 8), r = h.weighting(embedded.shape());
  const model::Mtp& mtp = h.model.mtp[0];
  const auto loss = [&] {
    const Workspace::Scope scope(h.saved);
    model::Mtp::Saved saved;
    const double of_output = Harness::weighed(mtp.forward(h.ctx, {embedded, previous}, rows, keep, saved), r);
    return of_output + 0.5 * saved.block.moe.balance;
  };
  model::Mtp::Saved saved;
  model::Mtp::Deltas deltas;
  mtp.forward(h.ctx, {embedded, previous}, rows, keep, saved);
  const model::Mtp::Inputs d = mtp.backward_input(h.ctx, r, rows, 0.5, saved, deltas);
  mtp.backward_weight(h.ctx, saved, deltas);
  h.expect("embedded", loss, embedded, d.embedded);
  h.expect("previous", loss, previous, d.previous);
  h.expect_parameters("model.layers.2.", loss);
}

Batch batch_of(Index sequences, Index length, Index vocab_size) {
  Batch b{sequences, length, {}, {}};
  for (Index i = 0; i < sequences * length; ++i) {
    b.ids.push_back(static_cast<TokenId>((i * 7 + i * i) % vocab_size));
    b.targets.push_back(i % 5 == 3 ? kIgnored : static_cast<TokenId>((i * 11 + 5) % vocab_size));
  }
  return b;
}

Losses run(Harness& h, const Batch& batch, Index micro_batch, bool recompute = false) {
  MicroBatch step(h.model, recompute);
  const Denominators den = denominators(batch, static_cast<Index>(h.model.mtp.size()));
  Losses losses;
  h.parameters.clear_gradients(h.ctx);
  for (Index begin = 0; begin < batch.sequences; begin += micro_batch)
    step.run(h.ctx, batch.part(begin, std::min(begin + micro_batch, batch.sequences)), {.mtp_weight = 0.4, .balance = 0.3},
             den, losses);
  return losses;
}

// Embedding, cross-entropy, the shared head and the sums over depths.
TEST(FiniteDifferences, TheWholeObjective) {
  Harness h(v3());
  const Batch batch = batch_of(2, 6, 37);
  run(h, batch, 2);
  std::vector<Tensor> gradients;
  for (const Parameter& p : h.parameters.all()) gradients.push_back(p.grad ? Tensor::copy_of(p.grad) : Tensor());
  const auto loss = [&] { return run(h, batch, 2).total({.mtp_weight = 0.4, .balance = 0.3}); };
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    Parameter& p = h.parameters.all()[i];
    if (p.grad && (p.name.find(".layers.") == std::string::npos || p.name.find("layernorm") != std::string::npos))
      h.expect(p.name, loss, p.value, gradients[i]);
  }
}

TEST(MicroBatches, AnySplitGivesTheSameGradientsAndLosses) {
  Harness h(v3());
  const Batch batch = batch_of(4, 7, 37);
  const Losses whole = run(h, batch, 4);
  std::vector<Tensor> gradients;
  for (const Parameter& p : h.parameters.all()) gradients.push_back(p.grad ? Tensor::copy_of(p.grad) : Tensor());
  for (const Index size : {1, 2, 3}) {
    const Losses parts = run(h, batch, size);
    EXPECT_NEAR(parts.main, whole.main, 1e-12);
    EXPECT_NEAR(parts.balance, whole.balance, 1e-12);
    for (std::size_t k = 0; k < whole.mtp.size(); ++k) EXPECT_NEAR(parts.mtp[k], whole.mtp[k], 1e-12);
    EXPECT_EQ(parts.counts, whole.counts);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const Parameter& p = h.parameters.all()[i];
      for (Index j = 0; p.grad && j < p.grad->num_elements(); ++j)
        ASSERT_NEAR(p.grad->data<double>()[j], gradients[i]->data<double>()[j], 1e-12) << p.name;
    }
  }
}

TEST(Recompute, ChangesNoBit) {
  Harness h(v3());
  const Batch batch = batch_of(3, 7, 37);
  const Losses kept = run(h, batch, 3);
  std::vector<Tensor> gradients;
  for (const Parameter& p : h.parameters.all()) gradients.push_back(p.grad ? Tensor::copy_of(p.grad) : Tensor());
  const Losses again = run(h, batch, 3, true);
  EXPECT_EQ(kept.main, again.main);
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const Parameter& p = h.parameters.all()[i];
    for (Index j = 0; p.grad && j < p.grad->num_elements(); ++j)
      ASSERT_EQ(p.grad->data<double>()[j], gradients[i]->data<double>()[j]) << p.name;
  }
}

}  // namespace
}  // namespace finite_differences_test
}  // namespace hadal::train
