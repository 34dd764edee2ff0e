// Scripts of arrivals: what runs when, without a model.
#include "hadal/infer/scheduler.h"

#include <gtest/gtest.h>

#include <map>

#include "hadal/core/error.h"

namespace hadal::infer {
namespace {

// Runs a schedule as an engine would: requests that may begin do, then a pass, and a sequence that has sampled all its
// tokens goes.
struct Script {
  Schedule schedule = {};
  std::map<RequestId, Index> answer = {}, sampled = {};  // tokens wanted, and had

  void arrive(RequestId id, Index prompt, Index tokens, Index pages = 0) {
    submit(schedule, {.id = id, .prompt = prompt, .pages = pages});
    answer[id] = tokens;
  }
  std::vector<Run> step() {
    while (can_begin(schedule)) begin(schedule, 0);
    const std::vector<Run> pass = next_pass(schedule);
    ran(schedule, pass);
    for (const ScheduledRequest r : std::vector(schedule.running))
      if (!r.in_prompt() && ++sampled[r.id] == answer[r.id]) remove(schedule, r.id);
    return pass;
  }
};

using Pass = std::vector<Run>;

TEST(Scheduler, APromptIsCutAndItsAnswerIsARowAPass) {
  Script s{.schedule = {.limits = {.prompt_rows = 4}}};
  s.arrive(1, 10, 3);
  EXPECT_EQ(s.step(), Pass({{1, 4, true}}));
  EXPECT_EQ(s.step(), Pass({{1, 4, true}}));
  EXPECT_EQ(s.step(), Pass({{1, 2, true}}));
  EXPECT_EQ(s.step(), Pass({{1, 1, false}}));
  EXPECT_EQ(s.step(), Pass({{1, 1, false}}));
  EXPECT_EQ(s.step(), Pass());
}

TEST(Scheduler, PromptsAndDecodingRowsShareAPass) {
  Script s{.schedule = {.limits = {.sequences = 3, .prompt_rows = 4}}};
  s.arrive(1, 2, 9);
  EXPECT_EQ(s.step(), Pass({{1, 2, true}}));
  s.arrive(2, 5, 9);
  s.arrive(3, 3, 9);
  EXPECT_EQ(s.step(), Pass({{1, 1, false}, {2, 4, true}}));
  EXPECT_EQ(s.step(), Pass({{1, 1, false}, {2, 1, true}, {3, 3, true}}));
  EXPECT_EQ(s.step(), Pass({{1, 1, false}, {2, 1, false}, {3, 1, false}}));
}

TEST(Scheduler, ThePlacesAreGivenInTheOrderOfArrival) {
  Script s{.schedule = {.limits = {.sequences = 2}}};
  for (RequestId id = 1; id <= 4; ++id) s.arrive(id, 1, id == 1 ? 3 : 1);
  EXPECT_EQ(s.step(), Pass({{1, 1, true}, {2, 1, true}}));
  EXPECT_EQ(s.step(), Pass({{1, 1, false}, {3, 1, true}}));
  EXPECT_EQ(s.step(), Pass({{1, 1, false}, {4, 1, true}}));
  EXPECT_TRUE(s.schedule.running.empty());
}

TEST(Scheduler, NobodyOvertakesWhoWaitsForPages) {
  Script s{.schedule = {.limits = {.sequences = 4, .pages = 10}}};
  s.arrive(1, 1, 2, 6);
  s.arrive(2, 1, 1, 5);
  s.arrive(3, 1, 1, 1);
  EXPECT_EQ(s.step(), Pass({{1, 1, true}}));
  EXPECT_EQ(s.step(), Pass({{1, 1, false}}));
  EXPECT_EQ(s.step(), Pass({{2, 1, true}, {3, 1, true}}));
}

TEST(Scheduler, WhoIsRemovedLeavesItsPlaceAndThePagesToOthers) {
  Script s{.schedule = {.limits = {.sequences = 2, .pages = 4}}};
  s.arrive(1, 8, 9, 3);
  s.arrive(2, 1, 9, 3);
  s.arrive(3, 1, 9, 1);
  EXPECT_EQ(s.step(), Pass({{1, 8, true}}));
  remove(s.schedule, 2);
  EXPECT_EQ(s.step(), Pass({{1, 1, false}, {3, 1, true}}));
  remove(s.schedule, 1);
  remove(s.schedule, 77);
  EXPECT_EQ(s.step(), Pass({{3, 1, false}}));
}

TEST(Scheduler, WhatIsCachedIsNotRunAgain) {
  Schedule schedule{.limits = {.prompt_rows = 100}};
  submit(schedule, {.id = 1, .prompt = 50});
  begin(schedule, 47);
  EXPECT_EQ(next_pass(schedule), Pass({{1, 3, true}}));
  EXPECT_THROW(begin(schedule, 0), Error);
}

TEST(Scheduler, TheSameStateGivesTheSamePass) {
  Script a{.schedule = {.limits = {.sequences = 3, .prompt_rows = 7}}};
  for (RequestId id = 1; id <= 9; ++id)
    a.arrive(id, static_cast<Index>(1 + id * 5 % 11), static_cast<Index>(1 + id % 4));
  for (int steps = 0; steps < 40; ++steps) {
    const Script b = a;
    EXPECT_EQ(next_pass(b.schedule), next_pass(b.schedule));
    Script c = b;
    EXPECT_EQ(a.step(), c.step());
  }
  EXPECT_TRUE(a.schedule.running.empty() && a.schedule.waiting.empty());
}

}  // namespace
}  // namespace hadal::infer
