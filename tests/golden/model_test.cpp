// The five golden models against numbers of an independent implementation (float64), and the bitwise promises.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "hadal/io/safetensors.h"
#include "hadal/stream/loader.h"

namespace hadal::model {

using stream::load_model;
using stream::LoadedModel;
namespace model_test {
namespace {

constexpr double kLogitTolerance = 2e-4;

using Tensors = std::map<std::string, std::vector<float>>;

struct How {
  Index threads = 2;
  Index chunk = 1 << 20;
  Index absorbed_from = 1 << 20;  // tokens from here on are computed one by one in the absorbed form
  Isa isa = best_isa();
  Activations activations = Activations::kF32;
};

void append(Tensors& all, const std::string& name, const ConstTensorRef& value) {
  std::vector<float>& to = all[name];
  const Tensor copy = Tensor::copy_of(value);
  for (Index i = 0; i < copy->num_elements(); ++i)
    to.push_back(copy.dtype() == DType::kI32 ? static_cast<float>(copy->data<std::int32_t>()[i])
                                             : copy->data<float>()[i]);
}

Tensors compute(const LoadedModel& model, const std::vector<TokenId>& ids, const How& run) {
  Tensors all;
  // What is made a group of heads at a time, or is not part of a layer, has other rows with other chunks.
  Trace trace([&](const std::string& name, const ConstTensorRef& value) {
    for (const char* part : {".keys_values", ".heads_out", ".embedding", ".final_norm", ".logits"})
      if (name.ends_with(part)) return;
    append(all, name, value);
  });
  Context ctx(static_cast<int>(run.threads), Numerics{run.isa, run.activations});
  const Observers::Watch watch(ctx.observers, trace);
  const Transformer& t = model.transformer;
  SequenceState state = t.new_sequence(static_cast<Index>(ids.size()));
  const auto total = static_cast<Index>(ids.size());
  for (Index begin = 0; begin < total;) {
    const bool absorbed = begin >= run.absorbed_from;
    const Index end =
        absorbed ? begin + 1 : std::min({begin + run.chunk, total, std::max(run.absorbed_from, begin + 1)});
    const Workspace::Scope scope(ctx.workspace);
    const Form form = absorbed ? Form::kAbsorbed : Form::kExpanded;
    const auto part = std::span(ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    const TensorRef hidden = t.hidden(ctx, part, form, state);
    append(all, "logits", t.logits(ctx, hidden));
    TensorRef previous = hidden;
    for (Index depth = 0; depth < static_cast<Index>(t.mtp.size()); ++depth) {
      const Index rows = std::min(end, total - 1 - depth) - begin;
      if (rows <= 0) break;
      const auto next =
          std::span(ids).subspan(static_cast<std::size_t>(begin + 1 + depth), static_cast<std::size_t>(rows));
      previous = t.mtp_hidden(ctx, depth, next, previous.rows(0, rows), form, state);
      append(all, "mtp" + std::to_string(depth) + ".logits", t.mtp_logits(ctx, depth, previous));
    }
    begin = end;
  }
  return all;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double{a[i]} - b[i]));
  return worst;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class GoldenModel : public ::testing::TestWithParam<std::tuple<const char*, Isa>> {
 protected:
  void SetUp() override {
    if (!isa_supported(std::get<1>(GetParam())))
      GTEST_SKIP() << "this CPU has no " << isa_name(std::get<1>(GetParam()));
  }
  std::string directory = std::string(HADAL_TEST_DATA "/golden/models/") + std::get<0>(GetParam());
  LoadedModel model = load_model(directory, {.mtp = true});
  io::SafetensorsFile golden{directory + "/golden.safetensors"};
  How run{.isa = std::get<1>(GetParam())};

  std::vector<TokenId> ids(const std::string& set) const {
    const ConstTensorRef t = golden.tensor(*golden.find(set + ".ids"));
    return {t.data<std::int32_t>(), t.data<std::int32_t>() + t.num_elements()};
  }
};

TEST_P(GoldenModel, LogitsAndTracesMatch) {
  for (const std::string set : {"short", "long"}) {
    const Tensors got = compute(model, ids(set), run);
    for (const io::TensorInfo& info : golden.tensors()) {
      if (!info.name.starts_with(set + ".") || info.name.ends_with(".ids")) continue;
      const std::string name = info.name.substr(set.size() + 1);
      ASSERT_TRUE(got.contains(name)) << name;
      Tensors expected;
      append(expected, name, golden.tensor(info));
      const double worst = largest_difference(got.at(name), expected.at(name));
      EXPECT_LE(worst, name.ends_with("topk_idx") ? 0 : kLogitTolerance) << info.name;
    }
  }
}

TEST_P(GoldenModel, Rule18_BitsDoNotDependOnThreadsOrChunks) {
  const Tensors whole = compute(model, ids("long"), run);
  // The scalar reference is slow and its loops do not know of rows: a sample is enough there.
  const bool all = run.isa != Isa::kRef;
  for (const Index threads : all ? std::vector<Index>{1, 2, 3} : std::vector<Index>{1})
    for (const Index chunk : all ? std::vector<Index>{1, 7, 64, 200} : std::vector<Index>{64}) {
      How other = run;
      other.threads = threads;
      other.chunk = chunk;
      const Tensors got = compute(model, ids("long"), other);
      for (const auto& [name, values] : whole)
        ASSERT_TRUE(same_bits(values, got.at(name))) << name << " with " << threads << " threads, chunks of " << chunk;
    }
}

TEST_P(GoldenModel, Rule18_NorWithActivationsInInt8NorThenOnTheInstructionSet) {
  if (run.isa == Isa::kRef) GTEST_SKIP() << "the reference has other bits outside of linears";
  run.activations = Activations::kInt8;
  run.isa = Isa::kAvx2;
  const Tensors whole = compute(model, ids("long"), run);
  run.isa = std::get<1>(GetParam());
  for (const Index threads : {1, 3})
    for (const Index chunk : {7, 200}) {
      run.threads = threads;
      run.chunk = chunk;
      ASSERT_TRUE(same_bits(whole.at("logits"), compute(model, ids("long"), run).at("logits")))
          << threads << " threads, chunks of " << chunk;
    }
}

TEST_P(GoldenModel, Rule18_AbsorbedAndExpandedFormsAgree) {
  const Tensors expanded = compute(model, ids("long"), run);
  for (const Index from : run.isa != Isa::kRef ? std::vector<Index>{0, 1, 150} : std::vector<Index>{150}) {
    How other = run;
    other.absorbed_from = from;
    const Tensors got = compute(model, ids("long"), other);
    EXPECT_LE(largest_difference(expanded.at("logits"), got.at("logits")), kLogitTolerance) << from;
    EXPECT_FALSE(same_bits(expanded.at("logits"), got.at("logits"))) << "the absorbed form was not used";
    if (!expanded.contains("mtp0.logits")) continue;
    EXPECT_LE(largest_difference(expanded.at("mtp0.logits"), got.at("mtp0.logits")), kLogitTolerance) << from;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenModel,
                         ::testing::Combine(::testing::Values("v3-tiny", "v3-tiny-fp8", "moonlight-tiny",
                                                              "v2-lite-tiny", "v2-tiny"),
                                            ::testing::ValuesIn(kAllIsas)),
                         [](const auto& p) {
                           std::string name =
                               std::string(std::get<0>(p.param)) + "_" + std::string(isa_name(std::get<1>(p.param)));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace model_test
}  // namespace hadal::model
