#include "hadal/serve/channel.h"

#include <gtest/gtest.h>

#include <thread>

namespace hadal::serve {
namespace {

TEST(Channel, WakesOnceUntilItIsTaken) {
  int wakes = 0;
  Channel channel(1 << 20, [&] { ++wakes; });
  EXPECT_TRUE(channel.push({.id = 1}));
  EXPECT_TRUE(channel.push({.id = 2}));
  EXPECT_EQ(wakes, 1);
  EXPECT_EQ(channel.take().samples.size(), 2u);
  EXPECT_TRUE(channel.take().samples.empty());
  channel.finish({});
  EXPECT_EQ(wakes, 2);
  EXPECT_TRUE(channel.take().completion);
}

TEST(Channel, AReaderTooFarBehindIsGivenUp) {
  Channel channel(10 * sizeof(infer::Sample), {});
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(channel.push({.id = i}));
  EXPECT_FALSE(channel.push({.id = 10}));
  channel.fail({Failure::Kind::kTooSlow, "slow"});
  channel.finish({});  // the first end counts
  const Received received = channel.take();
  EXPECT_EQ(received.failure->kind, Failure::Kind::kTooSlow);
  EXPECT_FALSE(received.completion);
  EXPECT_EQ(received.samples.size(), 10u);
}

TEST(Channel, NothingIsLostBetweenTwoThreads) {
  Channel channel(1 << 20, {});
  std::thread writer([&] {
    for (int i = 0; i < 10000; ++i)
      while (!channel.push({.id = i})) std::this_thread::yield();
    channel.finish({});
  });
  int next = 0;
  for (bool ended = false; !ended;) {
    const Received received = channel.take();
    for (const infer::Sample& s : received.samples) EXPECT_EQ(s.id, next++);
    ended = received.ended();
  }
  writer.join();
  EXPECT_EQ(next, 10000);
}

}  // namespace
}  // namespace hadal::serve
