#include "hadal/core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "hadal/core/error.h"

namespace hadal {
namespace {

TEST(ThreadPool, CoversEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const std::int64_t n : {0, 1, 7, 1000})
      for (const std::int64_t grain : {1, 3, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
        pool.parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          EXPECT_LE(end - begin, grain);
          for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
        });
        for (const auto& count : seen) ASSERT_EQ(count, 1);
      }
  }
}

TEST(ThreadPool, ManySmallJobsInARow) {
  ThreadPool pool(3);
  std::int64_t total = 0;
  for (int job = 0; job < 5000; ++job) {
    std::atomic<std::int64_t> sum{0};
    pool.parallel_for(16, 1, [&](std::int64_t begin, std::int64_t) { sum += begin; });
    total += sum;
  }
  EXPECT_EQ(total, 5000 * 120);
}

// Workers that sleep, come late or come when all is done already.
TEST(ThreadPool, JobsOfAllSizesAfterPausesOfAllLengths) {
  ThreadPool pool(7);
  for (int job = 0; job < 2000; ++job) {
    const int pieces = job % 13 + 1;
    std::vector<int> seen(
        static_cast<std::size_t>(pieces));  // not atomic: what pieces wrote is there when all are done
    pool.parallel_for(pieces, 1, [&](std::int64_t begin, std::int64_t) {
      if (begin % 5 == 4) std::this_thread::yield();
      ++seen[static_cast<std::size_t>(begin)];
    });
    for (const int count : seen) ASSERT_EQ(count, 1);
    if (job % 10 == 0) std::this_thread::sleep_for(std::chrono::microseconds(job % 300));
  }
}

TEST(ThreadPool, AnExceptionComesOutAndThePoolGoesOn) {
  ThreadPool pool(3);
  EXPECT_THROW(
      pool.parallel_for(100, 1, [](std::int64_t begin, std::int64_t) { HADAL_CHECK(begin != 42, "forty-two"); }),
      Error);
  std::atomic<int> count{0};
  pool.parallel_for(100, 1, [&](std::int64_t, std::int64_t) { ++count; });
  EXPECT_EQ(count, 100);
}

TEST(ThreadPool, ThreadsKnowTheirIndex) {
  ThreadPool pool(4);
  pool.parallel_for(1000, 1, [&](std::int64_t, std::int64_t) {
    EXPECT_GE(ThreadPool::current_thread(), 0);
    EXPECT_LT(ThreadPool::current_thread(), 4);
  });
}

TEST(ThreadPool, RefusesAbsurdCounts) {
  EXPECT_THROW(ThreadPool(-1), Error);
}

}  // namespace
}  // namespace hadal
