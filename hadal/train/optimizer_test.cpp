// AdamW and Muon against torch.optim (tools/make_optimizer_vectors.py), their state, and the average of parameters.
#include "hadal/train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "hadal/core/number_formats.h"
#include "hadal/train/ema.h"
#include "hadal/train/micro_batch.h"
#include "hadal/train/muon.h"

namespace hadal::train {
namespace optimizer_test {
namespace {

config::Config tiny() {
  return config::parse_config({{"model_type", "deepseek_v3"},
                               {"vocab_size", 11},
                               {"hidden_size", 12},
                               {"intermediate_size", 9},
                               {"moe_intermediate_size", 5},
                               {"num_hidden_layers", 2},
                               {"first_k_dense_replace", 1},
                               {"num_attention_heads", 2},
                               {"q_lora_rank", 6},
                               {"kv_lora_rank", 5},
                               {"qk_nope_head_dim", 3},
                               {"qk_rope_head_dim", 2},
                               {"v_head_dim", 4},
                               {"n_routed_experts", 4},
                               {"n_shared_experts", 1},
                               {"num_experts_per_tok", 2},
                               {"n_group", 2},
                               {"topk_group", 1},
                               {"topk_method", "noaux_tc"},
                               {"scoring_func", "sigmoid"},
                               {"norm_topk_prob", true},
                               {"routed_scaling_factor", 2.5},
                               {"rms_norm_eps", 1e-6},
                               {"rope_theta", 100.0},
                               {"max_position_embeddings", 64},
                               {"num_nextn_predict_layers", 1},
                               {"hidden_act", "silu"}},
                              "the test");
}

// The draws of the script.
std::uint64_t seed(const std::string& name) {
  std::uint64_t h = 0xCBF29CE484222325u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return h;
}
double draw(std::uint64_t s, std::uint64_t i) {
  const std::uint64_t x = (s * 0x9E3779B97F4A7C15u + i + 1) * 0xBF58476D1CE4E5B9u;
  return static_cast<double>(((x ^ x >> 29) * 0x94D049BB133111EBu) >> 11) * 0x1p-53 * 2 - 1;
}
void fill(const TensorRef& t, const std::string& name, double size, double around = 0) {
  for (Index i = 0; i < t.num_elements(); ++i) {
    const double x = around + size * draw(seed(name), static_cast<std::uint64_t>(i));
    if (t.dtype() == DType::kF64)
      t.data<double>()[i] = x;
    else
      t.data<float>()[i] = static_cast<float>(x);
  }
}
double element(const ConstTensorRef& t, Index i) {
  return t.dtype() == DType::kF64 ? t.data<double>()[i] : double{t.data<float>()[i]};
}

OptimizerOptions options(OptimizerKind kind, DType moments) {
  OptimizerOptions o;
  o.kind = kind;
  o.moments = moments;
  return o;
}

struct Model {
  explicit Model(DType real) : transformer(tiny()), parameters(transformer, real == DType::kF64 ? Precision::kF64 : Precision::kF32) {
    for (Parameter& p : parameters.all()) fill(p.value, p.name, 0.5);
  }
  void draw_gradients(Index step) {
    for (Parameter& p : parameters.all())
      if (p.grad) fill(p.grad, p.name + "@" + std::to_string(step), 0.1);
  }
  void run(Context& ctx, Optimizer& optimizer, Index first, Index last) {
    for (Index step = first; step < last; ++step) {
      draw_gradients(step);
      optimizer.step(ctx, parameters, 0.01 * static_cast<double>(1 + step % 3));
    }
  }
  bool same(const Model& other) const {
    for (std::size_t i = 0; i < parameters.all().size(); ++i) {
      const Tensor &a = parameters.all()[i].value, &b = other.parameters.all()[i].value;
      if (std::memcmp(a->raw(), b->raw(), static_cast<std::size_t>(a->num_bytes())) != 0) return false;
    }
    return true;
  }
  model::Transformer transformer;
  Parameters parameters;
};

const nlohmann::json& vectors() {
  static const nlohmann::json all = nlohmann::json::parse(std::ifstream(HADAL_TEST_DATA "/train/optimizer.json"));
  return all;
}

// The norm of the difference between all of a run's changes and torch's, over that of torch's changes.
double deviation(const Model& model, const std::string& which) {
  double off = 0, all = 0;
  for (const auto& [name, expected] : vectors().at(which).items()) {
    const Parameter& p = const_cast<Model&>(model).parameters.find(name);
    EXPECT_EQ(p.value->num_elements(), static_cast<Index>(expected.size())) << name;
    const Tensor before = Tensor::zeros(p.value.dtype(), p.info.shape);
    fill(before, name, 0.5);
    for (Index i = 0; i < p.value->num_elements(); ++i) {
      const double torch = std::strtod(expected[static_cast<std::size_t>(i)].get<std::string>().c_str(), nullptr);
      off += std::pow(element(p.value, i) - torch, 2);
      all += std::pow(torch - element(before, i), 2);
    }
  }
  return std::sqrt(off / all);
}

double run_against(const std::string& which, OptimizerOptions options, DType real, Isa isa, Index steps) {
  Context ctx(2, isa);
  Model model(real);
  const auto optimizer = make_optimizer(model.parameters, options);
  model.run(ctx, *optimizer, 0, steps);
  EXPECT_EQ(optimizer->steps(), steps);
  return deviation(model, which);
}

TEST(AdamW, IsTorchsInDouble) {
  const OptimizerOptions o = options(OptimizerKind::kAdamW, DType::kF64);
  EXPECT_LT(run_against("adamw-f64", o, DType::kF64, Isa::kRef, 10), 1e-14);
}
TEST(AdamW, IsTorchsInFloat) {
  for (const Isa isa : {Isa::kRef, best_isa()}) EXPECT_LT(run_against("adamw-f32", {}, DType::kF32, isa, 10), 2e-6);
}
TEST(AdamW, VectorsNoticeOtherRules) {
  const auto off = [](const AdamWOptions& adamw) {
    OptimizerOptions o = options(OptimizerKind::kAdamW, DType::kF64);
    o.adamw = adamw;
    return run_against("adamw-f64", o, DType::kF64, Isa::kRef, 10);
  };
  EXPECT_GT(off({.beta1 = 0.901}), 1e-4);
  EXPECT_GT(off({.beta2 = 0.951}), 1e-4);
  EXPECT_GT(off({.eps = 1e-4}), 1e-5);
  EXPECT_GT(off({.weight_decay = 0}), 1e-3);
}
TEST(AdamW, Bf16MomentsAreCloseAndHalfAsLarge) {
  const OptimizerOptions o = options(OptimizerKind::kAdamW, DType::kBF16);
  for (const Isa isa : {Isa::kRef, best_isa()}) {
    const double off = run_against("adamw-f32", o, DType::kF32, isa, 10);
    EXPECT_LT(off, 5e-3);
    EXPECT_GT(off, 1e-5);
  }
  Model model(DType::kF32);
  EXPECT_EQ(make_optimizer(model.parameters, o)->bytes() * 2, make_optimizer(model.parameters, {})->bytes());
}

const OptimizerOptions kMuon = options(OptimizerKind::kMuon, DType::kF32);

double muon_off(const MuonOptions& muon) {
  OptimizerOptions o = options(OptimizerKind::kMuon, DType::kF64);
  o.muon = muon;
  return run_against("muon-f64", o, DType::kF64, Isa::kRef, 5);
}
TEST(Muon, IsTorchsInDouble) {
  EXPECT_LT(muon_off({}), 1e-12);
}
TEST(Muon, VectorsNoticeOtherRules) {
  EXPECT_GT(muon_off({.momentum = 0.951}), 1e-5);
  EXPECT_GT(muon_off({.nesterov = false}), 1e-3);
  EXPECT_GT(muon_off({.weight_decay = 0.11}), 1e-5);
  EXPECT_GT(muon_off({.newton_schulz_steps = 4}), 1e-3);
}
TEST(Muon, IsTorchsInFloat) {
  for (const Isa isa : {Isa::kRef, best_isa()}) EXPECT_LT(run_against("muon-f32", kMuon, DType::kF32, isa, 5), 1e-4);
}
// torch's own rounds to BF16 between steps, which the polynomial makes larger.
TEST(Muon, IsNearTorchsWithItsRounding) {
  EXPECT_LT(run_against("muon-bf16", kMuon, DType::kF32, best_isa(), 5), 0.05);
}
TEST(Muon, EmbeddingHeadAndGainsAreAdamWs) {
  Context ctx(1);
  Model by_muon(DType::kF32), by_adamw(DType::kF32);
  by_muon.run(ctx, *make_optimizer(by_muon.parameters, kMuon), 0, 3);
  by_adamw.run(ctx, *make_optimizer(by_adamw.parameters, {}), 0, 3);
  int adamws = 0, muons = 0;
  for (std::size_t i = 0; i < by_muon.parameters.all().size(); ++i) {
    const Parameter& p = by_muon.parameters.all()[i];
    if (!p.grad) continue;
    const bool same = std::memcmp(p.value->raw(), by_adamw.parameters.all()[i].value->raw(),
                                  static_cast<std::size_t>(p.value->num_bytes())) == 0;
    EXPECT_EQ(same, p.name.find("norm") != std::string::npos || p.name == "lm_head.weight" ||
                        p.name == "model.embed_tokens.weight")
        << p.name;
    ++(same ? adamws : muons);
  }
  EXPECT_GT(adamws, 10);
  EXPECT_GT(muons, 30);
}

std::vector<OptimizerOptions> kinds() {
  std::vector<OptimizerOptions> all;
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kMuon})
    for (const DType moments : {DType::kF32, DType::kBF16}) all.push_back(options(kind, moments));
  return all;
}

TEST(Optimizer, SavedAndRestoredStateGoesOnWithTheSameBits) {
  Context ctx(2);
  for (const OptimizerOptions& o : kinds()) {
    Model straight(DType::kF32), resumed(DType::kF32);
    const auto first = make_optimizer(straight.parameters, o);
    straight.run(ctx, *first, 0, 3);
    std::map<std::string, Tensor> saved;
    first->for_each_state([&](const std::string& name, const TensorRef& t) {
      EXPECT_TRUE(saved.emplace(name, Tensor::copy_of(t)).second) << name;
      EXPECT_EQ(t.dtype(), o.moments) << name;
    });
    EXPECT_TRUE(saved.contains("first.model.norm.weight") && saved.contains("second.lm_head.weight"));
    EXPECT_EQ(saved.contains("momentum.model.layers.1.mlp.gate.weight"), o.kind == OptimizerKind::kMuon);
    EXPECT_FALSE(saved.contains("first.model.layers.1.mlp.gate.e_score_correction_bias"));

    const auto second = make_optimizer(resumed.parameters, o);
    for (std::size_t i = 0; i < resumed.parameters.all().size(); ++i) {
      const Tensor& from = straight.parameters.all()[i].value;
      std::memcpy(resumed.parameters.all()[i].value->raw(), from->raw(), static_cast<std::size_t>(from->num_bytes()));
    }
    second->for_each_state([&](const std::string& name, const TensorRef& t) {
      std::memcpy(t.raw(), saved.at(name)->raw(), static_cast<std::size_t>(t.num_bytes()));
    });
    second->set_steps(first->steps());
    straight.run(ctx, *first, 3, 5);
    resumed.run(ctx, *second, 3, 5);
    EXPECT_TRUE(straight.same(resumed));
  }
}

TEST(Optimizer, OneAndTwoThreadsGiveTheSameBits) {
  for (const OptimizerOptions& o : kinds())
    for (const Isa isa : {Isa::kRef, best_isa()}) {
      Context one(1, isa), two(2, isa);
      Model a(DType::kF32), b(DType::kF32);
      a.run(one, *make_optimizer(a.parameters, o), 0, 3);
      b.run(two, *make_optimizer(b.parameters, o), 0, 3);
      EXPECT_TRUE(a.same(b));
      EXPECT_EQ(gradient_norm(one, a.parameters), gradient_norm(two, a.parameters));
    }
}

TEST(Optimizer, AGradientFactorIsAClippedGradient) {
  Context ctx(1);
  for (const OptimizerOptions& o : kinds()) {
    Model by_factor(DType::kF32), by_hand(DType::kF32);
    by_factor.draw_gradients(0);
    by_hand.draw_gradients(0);
    const double norm = gradient_norm(ctx, by_factor.parameters), factor = clip_factor(norm, 0.25);
    EXPECT_NEAR(factor * norm, 0.25, 1e-15);
    EXPECT_EQ(clip_factor(0.2, 0.25), 1);
    make_optimizer(by_factor.parameters, o)->step(ctx, by_factor.parameters, 0.01, 0.5);
    for (Parameter& p : by_hand.parameters.all())
      for (Index i = 0; p.grad && i < p.grad->num_elements(); ++i) p.grad->data<float>()[i] *= 0.5f;
    make_optimizer(by_hand.parameters, o)->step(ctx, by_hand.parameters, 0.01);
    EXPECT_TRUE(by_factor.same(by_hand));
  }
}

TEST(GradientNorm, IsTheRootOfAllSquares) {
  for (const Isa isa : {Isa::kRef, best_isa()}) {
    Context ctx(2, isa);
    Model model(DType::kF32);
    model.draw_gradients(1);
    double sum = 0;
    for (const Parameter& p : model.parameters.all())
      for (Index i = 0; p.grad && i < p.grad->num_elements(); ++i) sum += std::pow(element(p.grad, i), 2);
    EXPECT_NEAR(gradient_norm(ctx, model.parameters), std::sqrt(sum), 1e-12);
  }
}

// ---- the average

TEST(Ema, IsThePlainMeanAtFirstAndThenForgets) {
  Context ctx(2);
  Model model(DType::kF64);
  Ema ema(model.parameters, 0.75);
  double& x = model.parameters.find("lm_head.weight").value->data<double>()[5];
  const auto average = [&] {
    double found = 0;
    ema.for_each_state([&](const std::string& name, const TensorRef& t) {
      if (name == "ema.lm_head.weight") found = t.data<double>()[5];
    });
    return found;
  };
  double expected = 0;
  const double values[] = {3, 5, 10, 2, 8, 1};
  for (int i = 0; i < 6; ++i) {
    x = values[i];
    ema.update(ctx, model.parameters);
    const double weight = i < 4 ? 1.0 / (i + 1) : 0.25;
    expected += weight * (values[i] - expected);
    EXPECT_NEAR(average(), expected, 1e-14) << i;
  }
  EXPECT_EQ(ema.updates(), 6);
}

TEST(Ema, SwapsInAndBack) {
  Context ctx(2);
  Model model(DType::kF32), before(DType::kF32);
  Ema ema(model.parameters, 0.5);
  ema.swap(ctx, model.parameters);
  EXPECT_TRUE(model.same(before));  // nothing to swap in yet
  ema.update(ctx, model.parameters);
  for (Parameter& p : model.parameters.all()) fill(p.value, p.name + "'", 1);
  Model after(DType::kF32);
  for (Parameter& p : after.parameters.all()) fill(p.value, p.name + "'", 1);
  ema.swap(ctx, model.parameters);
  EXPECT_TRUE(model.same(before));
  EXPECT_THROW(ema.update(ctx, model.parameters), Error);
  EXPECT_THROW(ema.for_each_state([](const std::string&, const TensorRef&) {}), Error);
  ema.swap(ctx, model.parameters);
  EXPECT_TRUE(model.same(after));
  ema.update(ctx, model.parameters);
}

TEST(Ema, ItsStateGoesOnWithTheSameBits) {
  Context ctx(1);
  Model model(DType::kF32);
  Ema straight(model.parameters, 0.9), resumed(model.parameters, 0.9);
  straight.update(ctx, model.parameters);
  std::map<std::string, Tensor> saved;
  straight.for_each_state([&](const std::string& name, const TensorRef& t) { saved[name] = Tensor::copy_of(t); });
  resumed.for_each_state([&](const std::string& name, const TensorRef& t) {
    std::memcpy(t.raw(), saved.at(name)->raw(), static_cast<std::size_t>(t.num_bytes()));
  });
  for (Parameter& p : model.parameters.all()) fill(p.value, p.name + "'", 1);
  straight.update(ctx, model.parameters);
  resumed.update(ctx, model.parameters);
  straight.for_each_state([&](const std::string& name, const TensorRef& t) { saved[name] = Tensor::copy_of(t); });
  resumed.for_each_state([&](const std::string& name, const TensorRef& t) {
    EXPECT_EQ(std::memcmp(t.raw(), saved.at(name)->raw(), static_cast<std::size_t>(t.num_bytes())), 0) << name;
  });
}

// ---- QK-clip

Losses scores(Context& ctx, Model& model) {
  Batch batch{2, 7, {}, {}};
  for (Index i = 0; i < 14; ++i) {
    batch.ids.push_back(static_cast<TokenId>(i * 3 % 11));
    batch.targets.push_back(static_cast<TokenId>((i * 5 + 1) % 11));
  }
  Losses losses;
  model.parameters.clear_gradients(ctx);
  for (Index s = 0; s < 2; ++s)
    MicroBatch(model.transformer).run(ctx, batch.part(s, s + 1), {}, denominators(batch, 1), losses);
  return losses;
}

TEST(QkClip, TheLargestScoreOfAHeadBecomesTheBound) {
  for (const bool in_double : {true, false}) {
    Context ctx(2, in_double ? Isa::kRef : best_isa());
    Model model(in_double ? DType::kF64 : DType::kF32), before(in_double ? DType::kF64 : DType::kF32);
    const Losses first = scores(ctx, model);
    ASSERT_EQ(first.largest_scores.size(), 3u);
    const std::vector<double>& of = first.largest_scores[0];
    ASSERT_EQ(of.size(), 2u);
    ASSERT_GT(std::min(of[0], of[1]), 0);
    // Between the two heads of the first layer; what its other head and the layers behind have stays.
    const double most = (of[0] + of[1]) / 2;
    std::vector<std::vector<double>> first_layer = first.largest_scores;
    first_layer.resize(1);
    EXPECT_EQ(clip_queries_and_keys(model.parameters, model.transformer.config, first_layer, most), 1);
    const Losses second = scores(ctx, model);
    const std::size_t clipped = of[0] > of[1] ? 0 : 1;
    const double tolerance = in_double ? 1e-13 : 1e-6;
    EXPECT_NEAR(second.largest_scores[0][clipped], most, tolerance);
    EXPECT_NEAR(second.largest_scores[0][1 - clipped], of[1 - clipped], tolerance);
    // Values are no keys.
    const TensorRef& kv = model.parameters.find("model.layers.0.self_attn.kv_b_proj.weight").value;
    const TensorRef& old = before.parameters.find("model.layers.0.self_attn.kv_b_proj.weight").value;
    for (Index row = 0; row < 14; ++row)
      EXPECT_EQ(element(kv, row * 5) != element(old, row * 5), row / 7 == static_cast<Index>(clipped) && row % 7 < 3)
          << row;
    EXPECT_EQ(clip_queries_and_keys(model.parameters, model.transformer.config, second.largest_scores, 1e3), 0);
  }
}

}  // namespace
}  // namespace optimizer_test
}  // namespace hadal::train
