// What a pass takes of the workspace is known before it runs: never more, and not much less.
#include <gtest/gtest.h>

#include <algorithm>

#include "hadal/core/random.h"
#include "hadal/stream/loader.h"

namespace hadal::model {
namespace workspace_test {
namespace {

using stream::LoadedModel;
using stream::load_model;

const std::string kModels = HADAL_TEST_DATA "/golden/models/";

struct Part {
  Index before, rows;  // tokens in the cache, tokens in the pass
  Form form;
};

// Passes of up to four sequences; those in the absorbed form first.
class RandomPasses {
 public:
  explicit RandomPasses(std::uint64_t seed) : random_(seed, 0) {}
  std::vector<Part> next() {
    std::vector<Part> parts;
    for (Index i = draw(3); i > 0; --i) parts.push_back({draw(300), 1 + draw(3), Form::kAbsorbed});
    for (Index i = draw(3); i > 0 || parts.empty(); --i) parts.push_back({draw(300), 1 + draw(90), Form::kExpanded});
    return parts;
  }
  Index draw(Index below) { return static_cast<Index>(random_.uniform(at_++) * static_cast<double>(below)); }

 private:
  Philox random_;
  std::uint64_t at_ = 0;
};

// A sequence with tokens whose entries are zeros.
void fill(Context& ctx, const Config& c, KvCache& cache, Index count) {
  if (count == 0) return;
  const Workspace::Scope scope(ctx.workspace);
  const Tensor entries = Tensor::zeros(DType::kF32, {count, c.kv_cache_width()});
  cache.reserve(count);
  for (Index layer = 0; layer < c.num_hidden_layers; ++layer) cache.write(ctx, layer, entries);
  cache.advance(count, Form::kExpanded);
}

struct Taken {
  double need, most;
};

Taken run(const LoadedModel& model, Context& ctx, const std::vector<Part>& parts, bool keep) {
  const Transformer& t = model.transformer;
  const CachePools pools = t.new_pools(DType::kF32, 0, keep ? std::uint64_t{1} << 24 : 0);
  std::vector<SequenceState> states;
  std::vector<std::vector<TokenId>> ids;
  std::vector<Segment> segments;
  std::vector<Pass::Run> runs;
  for (const Part& part : parts) {
    states.emplace_back(pools, 1000);
    fill(ctx, t.config, states.back().main, part.before);
    for (Index i = 0; i < part.rows; ++i) ids.resize(states.size()), ids.back().push_back(static_cast<TokenId>(i * 37 % 90));
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Index to_come = keep && parts[i].form == Form::kExpanded ? 10 : 0;
    segments.push_back({ids[i], states[i], parts[i].form, to_come});
    runs.push_back({parts[i].rows, parts[i].form, states[i].main, to_come});
  }
  const std::size_t need = t.need(ctx, Pass(runs, 0, *t.experts)).most();
  const Workspace::Scope scope(ctx.workspace);
  t.hidden(ctx, segments);
  return {static_cast<double>(need), static_cast<double>(ctx.workspace.most_used())};
}

class WorkspaceOf : public ::testing::TestWithParam<std::tuple<const char*, Isa, Activations>> {};

TEST_P(WorkspaceOf, APassIsKnownBeforeItRuns) {
  const auto& [name, isa, activations] = GetParam();
  if (!isa_supported(isa)) GTEST_SKIP() << "this CPU has no " << isa_name(isa);
  Context loading(2, isa);
  const LoadedModel plain = load_model(kModels + name), arranged = load_model(kModels + name, {.ctx = &loading, .rearrange = true});
  RandomPasses passes(7);
  double worst = 1;
  // The reference is slow and has one way only.
  for (int i = 0; i < (isa == Isa::kRef ? 2 : 20); ++i)
    for (const LoadedModel* model : {&plain, &arranged}) {
      Context ctx(1 + static_cast<int>(passes.draw(3)), Numerics{isa, activations});
      const std::vector<Part> parts = passes.next();
      const Taken taken = run(*model, ctx, parts, i % 2 == 1);
      ASSERT_LE(taken.most, taken.need) << i;
      worst = std::max(worst, taken.need / taken.most);
      // Nothing had to grow behind what was reserved.
      EXPECT_LE(static_cast<double>(ctx.workspace.allocated_bytes()), std::max(taken.need, 1048576.0)) << i;
    }
  RecordProperty("worst", std::to_string(worst));
  EXPECT_LE(worst, 2);
}

INSTANTIATE_TEST_SUITE_P(Models, WorkspaceOf,
                         ::testing::Combine(::testing::Values("v3-tiny", "v3-tiny-fp8", "moonlight-tiny",
                                                              "v2-lite-tiny", "v2-tiny"),
                                            ::testing::Values(Isa::kRef, Isa::kAvx2, Isa::kAvx512Bf16),
                                            ::testing::Values(Activations::kF32, Activations::kFp8,
                                                              Activations::kInt8)),
                         [](const auto& p) {
                           std::string name = std::string(std::get<0>(p.param)) + "_" +
                                              std::string(isa_name(std::get<1>(p.param))) + "_" +
                                              std::string(activations_name(std::get<2>(p.param)));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Experts that come from disk in waves, with ever fewer slots.
TEST(WorkspaceOfStreamedModels, APassIsKnownBeforeItRuns) {
  RandomPasses passes(8);
  std::uint64_t memory = load_model(kModels + "v3-tiny", {.mtp = true}).files->total_bytes();
  int streamed = 0;
  for (; streamed < 20; memory -= memory / 64) {
    Context ctx(2);
    const stream::StreamOptions options{.memory = memory, .strict = false, .counts_directory = {}};
    const LoadedModel model = load_model(kModels + "v3-tiny", {.mtp = true, .stream = options, .ctx = &ctx});
    if (!model.store && streamed > 0) break;
    streamed += model.store != nullptr;
    const Taken taken = run(model, ctx, passes.next(), false);
    ASSERT_LE(taken.most, taken.need) << memory;
  }
  EXPECT_GE(streamed, 5);
}

}  // namespace
}  // namespace workspace_test
}  // namespace hadal::model
