#include "hadal/eval/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
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

TEST(Perplexity, AReferenceOfTheSameModeDivergesNowhereAndChangesNothing) {
  Mini mini;
  Context ctx(2);
  const PerplexityResult alone = mini.run(ctx);
  EXPECT_EQ(alone.divergence, 0);
  mini.options.reference = Mode{.isa = ctx.isa};
  const PerplexityResult result = mini.run(ctx);
  EXPECT_EQ(result.nats, alone.nats);
  EXPECT_EQ(result.divergence, 0);
  EXPECT_EQ(result.agreeing, result.tokens);
  EXPECT_EQ(result.tokens, 100);
}

TEST(Perplexity, AReferenceRunsInItsOwnMode) {
  Mini mini;
  Context ctx(2);
  mini.options.cache_dtype = DType::kF8E4M3;
  mini.options.reference = Mode{.isa = ctx.isa};
  const PerplexityResult result = mini.run(ctx);
  EXPECT_GT(result.divergence_per_token(), 0);
  EXPECT_LT(result.divergence_per_token(), 0.1);
  EXPECT_GT(result.agreement(), 0.8);

  Context plain(2, Isa::kRef);
  mini.options.cache_dtype = DType::kF32;
  mini.options.reference->activations = Activations::kFp8;
  mini.options.reference->isa = ctx.isa;
  EXPECT_EQ(mini.run(plain).tokens, 100);
  EXPECT_EQ(plain.isa, Isa::kRef);
  EXPECT_EQ(plain.activations, Activations::kF32);
}

}  // namespace
}  // namespace hadal::eval
