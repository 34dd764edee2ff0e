#include "hadal/serve/engine_loop.h"

#include <gtest/gtest.h>

#include "hadal/stream/loader.h"

namespace hadal::serve {
namespace engine_loop_test {
namespace {

using Tokens = std::vector<config::TokenId>;

class EngineLoopTest : public ::testing::Test {
 protected:
  Context ctx{4};
  stream::LoadedModel model = stream::load_model(HADAL_SOURCE_DIR "/models/mini", {.mtp = true});

  std::vector<Tokens> answers(infer::EngineOptions options) {
    infer::Engine engine(ctx, model.transformer, std::move(options));
    Metrics metrics("mini");
    EngineLoop loop(engine, metrics);
    std::vector<std::shared_ptr<Channel>> open;
    for (int i = 0; i < 4; ++i) {
      infer::Request request{.prompt = Tokens(100, 300 + i), .sampling = {.temperature = 1}};
      request.sampling.seed = static_cast<std::uint64_t>(i);
      request.max_tokens = 40;  // into the next page
      open.push_back(loop.submit(std::move(request)));
    }
    std::vector<Tokens> out;
    for (const auto& channel : open)
      for (Tokens tokens;;) {
        const Received received = channel->take();
        for (const infer::Sample& s : received.samples) tokens.push_back(s.id);
        if (!received.ended()) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          continue;
        }
        EXPECT_FALSE(received.failure);
        out.push_back(tokens);
        break;
      }
    return out;
  }
};

// Wrong drafts give pages back that several sequences took in the same pass: ThreadSanitizer looks on.
TEST_F(EngineLoopTest, DraftsOfManyAnswersAtATime) {
  const auto expected = answers({.context = 400, .sequences = 8});
  EXPECT_EQ(
      answers(
          {.context = 400, .sequences = 8, .max_pages = 24, .speculate = infer::Speculate::kMtp, .fixed_drafts = 3}),
      expected);
}

}  // namespace
}  // namespace engine_loop_test
}  // namespace hadal::serve
