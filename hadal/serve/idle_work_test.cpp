#include "hadal/serve/idle_work.h"

#include <gtest/gtest.h>

#include "hadal/stream/loader.h"

namespace hadal::serve {
namespace idle_work_test {
namespace {

using Tokens = std::vector<config::TokenId>;

class IdleWorkTest : public ::testing::Test {
 protected:
  Context ctx{2};
  stream::LoadedModel model = stream::load_model(HADAL_SOURCE_DIR "/models/mini");
  infer::Engine engine{ctx, model.transformer, {.sequences = 4}};
  Metrics metrics{"mini"};
  EngineLoop loop{engine, metrics};

  std::mutex mutex;
  std::vector<int> made;  // numbers of jobs whose prompts were made

  IdleWork::Job job(int number, std::size_t bytes = 0, Index tokens = 60) {
    Tokens prompt(static_cast<std::size_t>(tokens), 300 + number);
    prompt[0] = 0;
    return {.make =
                [this, number, prompt] {
                  const std::lock_guard lock(mutex);
                  made.push_back(number);
                  return IdleWork::Prefill{prompt};
                },
            .bytes = bytes};
  }
  std::shared_ptr<Channel> endless() {
    infer::Request request{.prompt = {0, 5, 6}};
    request.max_tokens = 1000;
    return loop.submit(std::move(request));
  }
  // False after a while.
  bool wait_for(std::size_t jobs) {
    for (int i = 0; i < 5000; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      const std::lock_guard lock(mutex);
      if (made.size() >= jobs) return true;
    }
    return false;
  }
};

TEST_F(IdleWorkTest, TheLatestGoFirstAndTheOldestAreForgotten) {
  const auto busy = endless();
  IdleWork idle(loop, {.most_jobs = 3, .most_bytes = 100});
  idle.add(job(1));
  for (int i = 2; i <= 5; ++i) idle.add(job(i, 20));
  idle.add(job(6, 70));  // with it there is room for one more
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  {
    const std::lock_guard lock(mutex);
    EXPECT_TRUE(made.empty()) << "somebody asks for something";
  }
  loop.end(busy, infer::FinishReason::kCancelled);
  ASSERT_TRUE(wait_for(2));
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  const std::lock_guard lock(mutex);
  EXPECT_EQ(made, (std::vector{6, 5}));
}

TEST_F(IdleWorkTest, WhatWasInterruptedIsTriedAgainButNotForEver) {
  IdleWork idle(loop, {.most_tries = 3});
  idle.add(job(1, 0, 1000));
  for (std::size_t tries = 1; tries <= 3; ++tries) {
    ASSERT_TRUE(wait_for(tries));
    loop.end(endless(), infer::FinishReason::kCancelled);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const std::lock_guard lock(mutex);
  EXPECT_LE(made.size(), 3u);
}

TEST_F(IdleWorkTest, AJobThatFailsIsNobodysError) {
  IdleWork idle(loop);
  idle.add({.make = []() -> IdleWork::Prefill { throw Error("no"); }});
  idle.add({.make = [] { return IdleWork::Prefill{}; }});
  idle.add({.make = [] { return IdleWork::Prefill{Tokens(5000, 3)}; }});  // longer than the context
  idle.add(job(1));
  EXPECT_TRUE(wait_for(1));
}

TEST_F(IdleWorkTest, EndsWhateverItWaitsFor) {
  {
    IdleWork idle(loop);
  }
  {
    const auto busy = endless();
    IdleWork idle(loop);
    idle.add(job(1));
    loop.end(busy, infer::FinishReason::kCancelled);
  }
  {
    IdleWork idle(loop);
    idle.add(job(2, 0, 1000));
    ASSERT_TRUE(wait_for(1));
    loop.stop();
    idle.add(job(3));
  }
}

}  // namespace
}  // namespace idle_work_test
}  // namespace hadal::serve
