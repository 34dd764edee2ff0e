// A model whose weights were rearranged for the kernels gives the bits of the same model as it is stored: every golden
// model and number format, instruction set, rounding of activations, prompt and single tokens, MTP layers too.
#include "hadal/stream/row_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "hadal/stream/loader.h"
#include "tests/support/memory_limit.h"

namespace hadal::model {

using stream::group_rows;
using stream::load_model;
using stream::LoadedModel;
namespace row_groups_test {
namespace {

const std::filesystem::path kModels = HADAL_TEST_DATA "/golden/models";
constexpr Index kPrompt = 37, kTotal = 41;

void append(std::vector<float>& all, const ConstTensorRef& t) {
  all.insert(all.end(), t.data<float>(), t.data<float>() + t.num_elements());
}

// Logits of a prompt in the expanded form and of the tokens after it, one by one, in the absorbed form.
std::vector<float> logits_of(Context& ctx, const LoadedModel& model) {
  const Transformer& t = model.transformer;
  std::vector<TokenId> ids;
  for (Index i = 0; i < kTotal; ++i) ids.push_back(static_cast<TokenId>((i * 7919 + i * i * 31) % t.config.vocab_size));
  std::vector<float> all;
  SequenceState state = t.new_sequence(kTotal);
  for (Index begin = 0, end = kPrompt; begin < kTotal; begin = end, ++end) {
    const Workspace::Scope scope(ctx.workspace);
    const Form form = begin == 0 ? Form::kExpanded : Form::kAbsorbed;
    const auto part = std::span(ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    const TensorRef hidden = t.hidden(ctx, part, form, state);
    append(all, t.logits(ctx, hidden));
    if (t.mtp.empty() || end == kTotal) continue;
    const auto next = std::span(ids).subspan(static_cast<std::size_t>(begin + 1), part.size());
    append(all, t.mtp_logits(ctx, 0, t.mtp_hidden(ctx, 0, next, hidden, form, state)));
  }
  return all;
}

struct Counts {
  Index matrices = 0, grids = 0;
};

Counts grouped(LoadedModel& model) {
  Counts count;
  model.transformer.for_each_param([&](const std::string&, Weight& w, const ParamInfo&) {
    count.matrices += static_cast<bool>(w.packed);
    count.grids += static_cast<bool>(w.packed.scale);
    EXPECT_FALSE(w.packed.scale && w.scale && !w.values);
  });
  return count;
}

class RowGroups : public ::testing::TestWithParam<std::tuple<std::filesystem::path, Isa>> {};

TEST_P(RowGroups, HaveTheBitsOfTheModelAsStored) {
  const auto& [directory, isa] = GetParam();
  if (!isa_supported(isa)) GTEST_SKIP() << "this CPU has no " << isa_name(isa);
  Counts all;
  for (const Activations activations : {Activations::kF32, Activations::kBf16, Activations::kInt8, Activations::kFp8}) {
    Context ctx(2, Numerics{isa, activations});
    const LoadedModel stored = load_model(directory, {.mtp = true, .ctx = &ctx});
    LoadedModel rearranged = load_model(directory, {.mtp = true, .ctx = &ctx, .rearrange = true});
    const Counts some = grouped(rearranged);
    all.matrices += some.matrices;
    all.grids += some.grids;
    const std::vector<float> expected = logits_of(ctx, stored), got = logits_of(ctx, rearranged);
    ASSERT_EQ(got.size(), expected.size());
    EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0) << activations_name(activations);
  }
  EXPECT_GT(all.matrices, 0);
  EXPECT_GT(all.grids, 0);  // weights rounded to int8 have scales of single rows
}

std::vector<std::filesystem::path> golden_models() {
  std::vector<std::filesystem::path> all;
  for (const auto& entry : std::filesystem::directory_iterator(kModels))
    if (entry.is_directory()) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

INSTANTIATE_TEST_SUITE_P(Golden, RowGroups,
                         ::testing::Combine(::testing::ValuesIn(golden_models()),
                                            ::testing::Values(Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16)),
                         [](const auto& p) {
                           std::string name = std::get<0>(p.param).filename().string() + "_" +
                                              std::string(isa_name(std::get<1>(p.param)));
                           for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

TEST(RowGroupsMemory, WithTooLittleMemoryTheModelStaysAsStored) {
  Context ctx(1);
  if (ctx.numerics.isa == Isa::kRef) GTEST_SKIP() << "this CPU has no AVX2";
  LoadedModel model = load_model(golden_models()[0], {.mtp = true, .ctx = &ctx});
  group_rows(ctx, model.transformer, *model.files, 1000, false, model.owned);
  EXPECT_EQ(grouped(model).matrices, 0);
  group_rows(ctx, model.transformer, *model.files, 1u << 30, false, model.owned);
  EXPECT_GT(grouped(model).matrices, 0);
}

// The system says no, as under `ulimit -v`.
TEST(RowGroupsMemory, WhereTheSystemGivesNoMemoryTheModelStaysAsStored) {
  Context ctx(1);
  if (ctx.numerics.isa == Isa::kRef) GTEST_SKIP() << "this CPU has no AVX2";
  if (!test::MemoryLimit::works()) GTEST_SKIP() << "sanitizers do not go on without memory";
  LoadedModel model = load_model(HADAL_SOURCE_DIR "/models/mini", {.ctx = &ctx});
  {
    const test::MemoryLimit limit(4 << 20);
    group_rows(ctx, model.transformer, *model.files, std::uint64_t{1} << 30, false, model.owned);
  }
  EXPECT_EQ(grouped(model).matrices, 0);
  group_rows(ctx, model.transformer, *model.files, std::uint64_t{1} << 30, false, model.owned);
  EXPECT_GT(grouped(model).matrices, 0);
}

TEST(RowGroupsMemory, CtrlCEndsRearranging) {
  Context ctx(1);
  if (ctx.numerics.isa == Isa::kRef) GTEST_SKIP() << "this CPU has no AVX2";
  Poll poll([] { throw Interrupted("interrupted"); });
  const Observers::Watch watch(ctx.observers, poll);
  EXPECT_THROW(load_model(golden_models()[0], {.ctx = &ctx, .rearrange = true}), Interrupted);
}

}  // namespace
}  // namespace row_groups_test
}  // namespace hadal::model
