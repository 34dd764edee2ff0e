#include "hadal/eval/perplexity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "hadal/stream/loader.h"

namespace hadal::eval {
namespace {

TEST(KlDivergence, IsTheSumOverTheReferencesProbabilities) {
  const std::vector<float> half = {0, 0}, quarter = {0, std::log(3.0f)};
  EXPECT_NEAR(kl_divergence(half, quarter), 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3), 1e-7);
  EXPECT_NEAR(kl_divergence(quarter, half), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-7);
}

TEST(KlDivergence, IsZeroOfARowAgainstItselfAndNeverNegative) {
  std::vector<float> row(1000), near(1000);
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = 30 * std::sin(static_cast<float>(i) * 1.7f);
    near[i] = std::nextafter(row[i], 100.0f);
  }
  EXPECT_EQ(kl_divergence(row, row), 0);
  EXPECT_GE(kl_divergence(row, near), 0);
  EXPECT_GE(kl_divergence(near, row), 0);
}

TEST(KlDivergence, DoesNotSeeWhatIsAddedToAllLogits) {
  EXPECT_NEAR(kl_divergence(std::vector<float>{1, 2, 4}, std::vector<float>{101, 102, 104}), 0, 1e-12);
}

struct Mini {
  stream::LoadedModel model = stream::load_model(HADAL_SOURCE_DIR "/models/mini");
  std::vector<config::TokenId> ids;
  PerplexityOptions options{.context = 40, .stride = 13};  // overlapping windows, some rows of which are not scored

  Mini() {
    for (int i = 0; i < 100; ++i) ids.push_back(5 + i * 37 % 4000);
  }
  PerplexityResult run(Context& ctx) const { return perplexity(ctx, model.transformer, ids, options); }
};

// What a sum over all positions, written out, gives for one window.
TEST(Perplexity, TheDivergenceIsThatOfEveryScoredRow) {
  Mini mini;
  mini.ids.resize(30);
  mini.options.cache_dtype = DType::kF8E4M3;
  Context ctx(2);
  mini.options.reference = Mode{.isa = ctx.numerics.isa};
  const model::Transformer& t = mini.model.transformer;
  std::vector<config::TokenId> inputs = {mini.options.bos};
  inputs.insert(inputs.end(), mini.ids.begin(), mini.ids.end() - 1);
  const auto rows = [&](DType cache) {
    model::SequenceState state = t.new_sequence(30, cache);
    return Tensor::copy_of(t.logits(ctx, t.hidden(ctx, inputs, model::Form::kExpanded, state)));
  };
  const Tensor of_fp8 = rows(DType::kF8E4M3), of_f32 = rows(DType::kF32);
  double divergence = 0;
  Index agreeing = 0;
  for (Index r = 0; r < 30; ++r) {
    const auto row = [&](const Tensor& all) {
      return std::span<const float>(all->view<float, 2>().row(r), static_cast<std::size_t>(all.size(1)));
    };
    const auto log_sum = [](std::span<const float> x) {
      double sum = 0;
      for (const float v : x) sum += std::exp(double{v});
      return std::log(sum);
    };
    const auto p = row(of_f32), q = row(of_fp8);
    const double p_sum = log_sum(p), q_sum = log_sum(q);
    for (std::size_t i = 0; i < p.size(); ++i) divergence += std::exp(p[i] - p_sum) * (p[i] - p_sum - (q[i] - q_sum));
    agreeing += std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin();
  }
  const PerplexityResult result = mini.run(ctx);
  EXPECT_GT(divergence, 0);
  EXPECT_NEAR(result.divergence, divergence, 1e-9 + 1e-6 * divergence);
  EXPECT_EQ(result.agreeing, agreeing);
}

TEST(Perplexity, AReferenceDoesNotChangeWhatItIsComparedWith) {
  Mini mini;
  mini.options.cache_dtype = DType::kF8E4M3;
  Context ctx(2);
  const PerplexityResult alone = mini.run(ctx);
  mini.options.reference = Mode{.isa = ctx.numerics.isa};
  const PerplexityResult result = mini.run(ctx);
  EXPECT_EQ(result.nats, alone.nats);
  EXPECT_EQ(result.tokens, 100);
  mini.options.cache_dtype = DType::kF32;
  EXPECT_NE(mini.run(ctx).nats, alone.nats);
}

TEST(Perplexity, AReferenceRunsInItsOwnMode) {
  Mini mini;
  Context ctx(2);
  mini.options.cache_dtype = DType::kF8E4M3;
  mini.options.reference = Mode{.isa = ctx.numerics.isa};
  const PerplexityResult result = mini.run(ctx);
  EXPECT_GT(result.divergence_per_token(), 0);
  EXPECT_LT(result.divergence_per_token(), 0.1);
  EXPECT_GT(result.agreement(), 0.8);

  Context plain(2, Isa::kRef);
  mini.options.cache_dtype = DType::kF32;
  mini.options.reference->activations = Activations::kFp8;
  mini.options.reference->isa = ctx.numerics.isa;
  EXPECT_EQ(mini.run(plain).tokens, 100);
  EXPECT_EQ(plain.numerics.isa, Isa::kRef);
  EXPECT_EQ(plain.numerics.activations, Activations::kF32);
}

}  // namespace
}  // namespace hadal::eval
