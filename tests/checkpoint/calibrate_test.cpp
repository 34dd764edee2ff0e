// Calibrated INT4: what it goes by, and that it is worth it.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "hadal/checkpoint/convert.h"
#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"
#include "hadal/eval/perplexity.h"
#include "hadal/io/json.h"
#include "hadal/ops/quantize_int.h"
#include "hadal/tokenizer/tokenizer.h"
#include "tests/support/temporary_directory.h"

namespace hadal::checkpoint {
namespace calibrate_test {
namespace {

using test::TemporaryDirectory;
using Path = std::filesystem::path;

const Path kMini = HADAL_SOURCE_DIR "/models/mini";
const Path kTiny = HADAL_TEST_DATA "/golden/models/v3-tiny";

// ---- the inputs

class Inputs : public ::testing::Test {
 protected:
  void SetUp() override {
    const ConstTensorRef t = golden.tensor(*golden.find("short.ids"));
    const auto* ids = t.data<std::int32_t>();
    text = {.ids = {ids + 1, ids + t.num_elements()}, .bos = ids[0]};
    calibration.emplace(ctx, model, text);
  }
  void expect_golden(const std::string& linear, const std::string& trace) {
    const Tensor got = calibration->inputs(linear);
    const Tensor expected = Tensor::copy_of(golden.tensor(*golden.find("short." + trace)));
    ASSERT_EQ(got->num_elements(), expected->num_elements()) << linear;
    for (Index i = 0; i < got->num_elements(); ++i)
      ASSERT_NEAR(got->data<float>()[i], expected->data<float>()[i], 1e-4) << linear << " " << i;
  }
  Context ctx{2};
  const io::SafetensorsFile golden{kTiny / "golden.safetensors"};
  const stream::LoadedModel model = stream::load_model(kTiny, {.mtp = true});
  CalibrationText text;
  std::optional<Calibration> calibration;
};

TEST_F(Inputs, AreWhatAnIndependentImplementationSees) {
  expect_golden("model.layers.0.self_attn.o_proj.weight", "layer0.attn_heads");
  expect_golden("model.layers.1.self_attn.kv_b_proj.weight", "layer1.latent");
  expect_golden("model.layers.2.self_attn.o_proj.weight", "layer2.attn_heads");
  expect_golden("model.layers.3.self_attn.o_proj.weight", "layer3.attn_heads");  // the MTP layer
}

TEST_F(Inputs, OfAnExpertAreTheTokensThatChoseIt) {
  const Tensor chosen = Tensor::copy_of(golden.tensor(*golden.find("short.layer2.topk_idx")));
  Index seen = 0;
  for (Index e = 0; e < model.transformer.config.n_routed_experts; ++e) {
    const auto* ids = chosen->data<std::int32_t>();
    const auto expected = std::count(ids, ids + chosen->num_elements(), static_cast<std::int32_t>(e));
    const std::string expert = "model.layers.2.mlp.experts." + std::to_string(e);
    const Tensor up = calibration->inputs(expert + ".up_proj.weight");
    ASSERT_EQ(up ? up.size(0) : 0, expected) << e;
    if (!up) continue;
    EXPECT_EQ(calibration->inputs(expert + ".down_proj.weight").shape(),
              Shape({expected, model.transformer.config.moe_intermediate_size}));
    seen += expected;
  }
  EXPECT_EQ(seen, chosen->num_elements());
}

TEST_F(Inputs, OfTheHeadGiveTheLogits) {
  const Tensor h = calibration->inputs("lm_head.weight");
  const TensorRef logits = model.transformer.logits(ctx, h);
  const Tensor expected = Tensor::copy_of(golden.tensor(*golden.find("short.logits")));
  for (Index i = 0; i < expected->num_elements(); ++i)
    ASSERT_NEAR(logits.data<float>()[i], expected->data<float>()[i], 2e-4);
}

TEST_F(Inputs, AreAskedForInTheOrderOfTheLayers) {
  calibration->inputs("model.layers.2.self_attn.o_proj.weight");
  EXPECT_THROW(calibration->inputs("model.layers.1.self_attn.o_proj.weight"), Error);
}

// ---- the rounding

struct Rounded {
  Rounded(Index rows, Index columns, Index group)
      : packed(DType::kI32, {rows, ops::num_blocks(columns, 8)}),
        scale(DType::kBF16, {rows, ops::num_blocks(columns, group)}),
        values(DType::kF32, {rows, columns}),
        group_size(group) {}
  void decode(Context& ctx) const {
    ops::dequantize(ctx,
                    {.values = packed,
                     .scale = scale,
                     .scale_rows = 1,
                     .scale_columns = group_size,
                     .packed_columns = values.size(1)},
                    values);
  }
  Tensor packed, scale, values;
  Index group_size;
};

Tensor normal(Shape shape, std::uint64_t stream) {
  Tensor t(DType::kF32, shape);
  const Philox random(11, stream);
  for (Index i = 0; i < t->num_elements(); ++i) {
    double sum = -6;
    for (std::uint64_t k = 0; k < 12; ++k) sum += random.uniform(static_cast<std::uint64_t>(i) * 12 + k);
    t->data<float>()[i] = static_cast<float>(sum);
  }
  return t;
}

// Inputs whose columns are tied together, and of very different sizes.
Tensor correlated(Index tokens, Index columns) {
  Tensor x = normal({tokens, columns}, 1);
  for (Index t = 0; t < tokens; ++t) {
    float* row = x->data<float>() + t * columns;
    for (Index c = 1; c < columns; ++c) row[c] = 0.8f * row[c - 1] + 0.6f * row[c];
    for (Index c = 0; c < columns; c += 17) row[c] *= 8;
  }
  return x;
}

double output_error(const Tensor& x, const Tensor& w, const Tensor& rounded) {
  double sum = 0;
  for (Index t = 0; t < x.size(0); ++t)
    for (Index r = 0; r < w.size(0); ++r) {
      double y = 0;
      for (Index c = 0; c < w.size(1); ++c)
        y += double{x->data<float>()[t * w.size(1) + c]} *
             (w->data<float>()[r * w.size(1) + c] - rounded->data<float>()[r * w.size(1) + c]);
      sum += y * y;
    }
  return sum;
}

TEST(Gptq, KeepsTheOutputsBetterThanNearest) {
  Context ctx(2);
  const Tensor w = normal({12, 600}, 2);  // more than one span
  const Tensor x = correlated(900, 600), unseen = correlated(100, 600);
  for (const Index group : {32, 128}) {
    const Rounded nearest(12, 600, group), gptq(12, 600, group);
    ops::quantize_int4(ctx, w, group, nearest.packed, nearest.scale);
    Gptq(ctx, x, 600).quantize(ctx, w, group, gptq.packed, gptq.scale);
    nearest.decode(ctx);
    gptq.decode(ctx);
    EXPECT_LT(output_error(unseen, w, gptq.values), 0.4 * output_error(unseen, w, nearest.values)) << group;
  }
}

TEST(Gptq, RowsDoNotDependOnPiecesOrThreads) {
  Context one(1), three(3);
  const Tensor w = normal({20, 160}, 3), x = correlated(300, 160);
  const Rounded whole(20, 160, 32), parts(20, 160, 32);
  Gptq(one, x, 160).quantize(one, w, 32, whole.packed, whole.scale);
  const Gptq gptq(three, x, 160);
  for (const auto& [begin, end] : {std::pair<Index, Index>{0, 7}, {7, 20}})
    gptq.quantize(three, w->rows(begin, end), 32, parts.packed->rows(begin, end), parts.scale->rows(begin, end));
  EXPECT_EQ(std::memcmp(whole.packed->raw(), parts.packed->raw(), static_cast<std::size_t>(whole.packed->num_bytes())),
            0);
  EXPECT_EQ(std::memcmp(whole.scale->raw(), parts.scale->raw(), static_cast<std::size_t>(whole.scale->num_bytes())), 0);
}

TEST(Gptq, WithoutInputsOrWithDeadColumnsItStillRounds) {
  Context ctx(1);
  const Tensor w = normal({5, 64}, 4);
  const Tensor none, zeros = Tensor::zeros(DType::kF32, {10, 64});
  for (const Tensor* x : {&none, &zeros}) {
    const Rounded r(5, 64, 32);
    Gptq(ctx, *x, 64).quantize(ctx, w, 32, r.packed, r.scale);
    r.decode(ctx);
    for (Index i = 0; i < w->num_elements(); ++i) ASSERT_NEAR(r.values->data<float>()[i], w->data<float>()[i], 1.0);
  }
}

// ---- the model

class Calibrated : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string all = io::read_text_file(HADAL_TEST_DATA "/tokenizer/vectors/wikitext-8192.txt");
    const auto tokenizer = tokenizer::Tokenizer::load(kMini);
    text = {.ids = tokenizer.encode(all.substr(0, all.size() / 2), tokenizer::AddedTokenMode::kIgnore), .bos = 0};
    held_out = tokenizer.encode(all.substr(all.size() / 2), tokenizer::AddedTokenMode::kIgnore);
  }
  void convert(const std::string& name, const ConvertOptions& options, const Progress& progress = {}) {
    Context ctx(2);
    convert_model(ctx, kMini, dir.path() / name, options, progress);
  }
  // Nats a token on the held-out text. The float model that the quantised one stands for runs faster.
  double nats(const Path& directory) {
    Context ctx(2);
    const Path floats = dir.path() / (directory.filename().string() + "-f32");
    convert_model(ctx, directory, floats, {.storage = {.target = Target::kF32}}, {});
    const stream::LoadedModel model = stream::load_model(floats);
    return eval::perplexity(ctx, model.transformer, held_out, {.bos = text.bos}).nats_per_token();
  }
  std::string bytes(const std::string& name) { return io::read_text_file(dir.path() / name / "model.safetensors"); }

  ConvertOptions calibrated() const { return {.storage = {.target = Target::kInt4}, .calibration = text}; }
  TemporaryDirectory dir;
  CalibrationText text;
  std::vector<config::TokenId> held_out;
};

TEST_F(Calibrated, BeatsRoundToNearestOnTextItHasNotSeen) {
  convert("nearest", {.storage = {.target = Target::kInt4}});
  convert("calibrated", calibrated());
  const double original = nats(kMini), nearest = nats(dir.path() / "nearest"), ours = nats(dir.path() / "calibrated");
  RecordProperty("nats", fmt::format("original {:.4f}, nearest {:.4f}, calibrated {:.4f}", original, nearest, ours));
  EXPECT_GT(nearest, original + 0.01) << "there is nothing to win";
  EXPECT_LT(ours - original, 0.5 * (nearest - original)) << original << " " << nearest << " " << ours;
}

TEST_F(Calibrated, AKilledRunGoesOnAndEndsTheSame) {
  text.ids.resize(700);
  ConvertOptions options = calibrated();
  options.storage.head = Target::kInt4;  // the head and the MTP layer too
  convert("whole", options);
  options.shard_bytes = 1'000'000;
  const pid_t child = ::fork();
  if (child == 0) {
    Context ctx(1);
    convert_model(ctx, kMini, dir.path() / "killed", options, [](std::uint64_t done, std::uint64_t) {
      if (done >= 2'500'000) ::kill(::getpid(), SIGKILL);
      return true;
    });
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  const ConvertOptions same = options;
  text.ids[5] ^= 1;
  options.calibration = text;  // another text is another run
  EXPECT_THROW(convert("killed", options), Error);
  options = same;
  convert("killed", options);
  const io::CheckpointFiles a(dir.path() / "whole"), b(dir.path() / "killed");
  ASSERT_TRUE(a.names() == b.names());
  for (const std::string& name : a.names()) {
    const ConstTensorRef x = a.find(name), y = b.find(name);
    EXPECT_EQ(std::memcmp(x.raw(), y.raw(), static_cast<std::size_t>(x.num_bytes())), 0) << name;
  }
}

}  // namespace
}  // namespace calibrate_test
}  // namespace hadal::checkpoint
