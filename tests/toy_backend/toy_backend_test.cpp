// Golden models on another device, whose memory the host cannot touch, give the bits of the host's reference.
#include "tests/toy_backend/toy_backend.h"

#include <gtest/gtest.h>

#include <cstring>

#include "hadal/core/transfer.h"
#include "hadal/eval/logits.h"
#include "hadal/infer/engine.h"
#include "hadal/stream/loader.h"

namespace hadal {
namespace {

using model::Form;

const std::filesystem::path kModels = HADAL_TEST_DATA "/golden/models";

std::vector<config::TokenId> some_ids(const config::Config& c, Index count) {
  std::vector<config::TokenId> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<config::TokenId>((i * 7919 + i * i * 31) % c.vocab_size));
  return ids;
}

// The same model on the host and on the toy.
struct Both {
  explicit Both(const std::string& name, Activations activations = Activations::kF32)
      : host_ctx(2, Numerics{Isa::kRef, activations}),
        toy_ctx(1, Numerics{Isa::kRef, activations}, test::toy_memory()) {
    host = std::make_unique<stream::LoadedModel>(stream::load_model(kModels / name, {.mtp = true, .ctx = &host_ctx}));
    toy = std::make_unique<stream::LoadedModel>(
        stream::load_model(kModels / name, {.mtp = true, .ctx = &toy_ctx, .rearrange = true}));
  }
  Context host_ctx, toy_ctx;
  std::unique_ptr<stream::LoadedModel> host, toy;
};

class ToyBackend : public ::testing::TestWithParam<const char*> {};

// A prompt in the expanded form in two chunks, tokens in the absorbed one, MTP layers.
void expect_same_bits(const std::string& name, Activations activations, DType cache) {
  Both both(name, activations);
  const auto ids = some_ids(both.host->transformer.config, 12);
  const eval::LogitsOptions options{.chunk = 5, .decode_from = 9, .cache_dtype = cache};
  const auto expected = eval::compute_logits(both.host_ctx, both.host->transformer, ids, options);
  const auto got = eval::compute_logits(both.toy_ctx, both.toy->transformer, ids, options);
  ASSERT_EQ(got.size(), expected.size());
  for (const auto& [part, rows] : expected) EXPECT_TRUE(got.at(part).bytes == rows.bytes) << part;
}

TEST(ToyBackend, AWholeModelHasTheBitsOfTheHost) {
  expect_same_bits("v3-tiny", Activations::kF32, DType::kF32);
}
TEST(ToyBackend, SoHaveFp8WeightsActivationsAndCache) {
  expect_same_bits("v3-tiny-fp8", Activations::kFp8, DType::kF8E4M3);
}
TEST(ToyBackend, SoHasV2WithACacheInBf16) {
  expect_same_bits("v2-lite-tiny", Activations::kF32, DType::kBF16);
}

// The prompt's keys and values are kept on the device from chunk to chunk.
TEST(ToyBackend, AnEngineSamplesTheSameTokens) {
  Both both("v3-tiny");
  const auto ids = some_ids(both.host->transformer.config, 9);
  const auto answer = [&](Context& ctx, const stream::LoadedModel& model) {
    infer::Engine engine(ctx, model.transformer, {.context = 32, .chunk = 4});
    infer::Request request;
    request.prompt = ids;
    request.max_tokens = 4;
    request.sampling = {.temperature = 0.7, .seed = 5};
    return engine.generate(request).tokens;
  };
  EXPECT_EQ(answer(both.toy_ctx, *both.toy), answer(both.host_ctx, *both.host));
}

// Two sequences part in the middle of a page, which is copied on the device.
TEST(ToyBackend, AForkedCacheOwnsItsLastPage) {
  Both both("v3-tiny");
  const auto ids = some_ids(both.host->transformer.config, 12);
  const auto forked = [&](Context& ctx, const model::Transformer& t) {
    const Workspace::Scope scope(ctx.workspace);
    model::SequenceState state = t.new_sequence(64, DType::kF32, ctx.memory);
    t.hidden(ctx, std::span(ids).first(8), Form::kExpanded, state);
    model::SequenceState other = state.fork(5);
    t.hidden(ctx, std::span(ids).subspan(8, 4), Form::kExpanded, other);
    return host_copy(ctx, t.logits(ctx, t.hidden(ctx, std::span(ids).subspan(3, 1), Form::kAbsorbed, state)));
  };
  const Tensor expected = forked(both.host_ctx, both.host->transformer),
               got = forked(both.toy_ctx, both.toy->transformer);
  EXPECT_EQ(std::memcmp(got->raw(), expected->raw(), static_cast<std::size_t>(got->num_bytes())), 0);
}

TEST(ToyBackend, TheHostCannotTouchItsMemory) {
  Context ctx(1, Numerics{Isa::kRef}, test::toy_memory());
  const Tensor one = Tensor::zeros(DType::kF32, {1});
  const TensorRef there = to_device(ctx, one);
  EXPECT_THROW(there.data<float>(), Error);
  EXPECT_EQ(*host_copy(ctx, there)->data<float>(), 0.0f);
  EXPECT_DEATH(static_cast<volatile float*>(there.data_on<float>(ctx.device))[0] = 1, "");
}

}  // namespace
}  // namespace hadal
