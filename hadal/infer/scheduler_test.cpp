// Scripts of arrivals: what runs when, without a model.
#include "hadal/infer/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "hadal/core/error.h"

namespace hadal::infer {
namespace {

// Runs a schedule as an engine would: requests that may begin do, then a pass, and a sequence that has sampled all its
// tokens goes.
struct Script {
  Schedule schedule = {};
  std::map<RequestId, Index> answer = {}, had = {};  // tokens wanted, and had

  void arrive(RequestId id, Index prompt, Index tokens) { arrive({.id = id, .prompt = prompt}, tokens); }
  void arrive(const ScheduledRequest& request, Index tokens) {
    submit(schedule, request);
    answer[request.id] = tokens;
  }
  std::vector<Run> step() {
    while (can_begin(schedule)) begin(schedule, 0);
    const std::vector<Run> pass = next_pass(schedule);
    ran(schedule, pass);
    for (const ScheduledRequest& r : std::vector(schedule.running))
      if (r.done == r.known) {
        sampled(schedule, r.id, r.known + 1, r.done);
        if (++had[r.id] == answer[r.id]) remove(schedule, r.id);
      }
    return pass;
  }
  // Who begins, in this order, until all are through.
  std::vector<RequestId> order_of_beginning() {
    std::vector<RequestId> order;
    while (!schedule.running.empty() || !schedule.waiting.empty())
      for (const Run& run : step())
        if (std::find(order.begin(), order.end(), run.id) == order.end()) order.push_back(run.id);
    return order;
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
  Schedule s{.limits = {.sequences = 9}, .free_pages = 10};
  submit(s, {.id = 1, .prompt = 1, .pages = 12});
  submit(s, {.id = 2, .prompt = 1, .pages = 5});
  submit(s, {.id = 3, .prompt = 1, .pages = 1});
  EXPECT_TRUE(can_begin(s)) << "whoever is alone";
  begin(s, 0);
  s.running[0].pages = 4;  // to come: 10 - 4 - 5 leaves a page for 1 to grow
  s.free_pages = 9;
  EXPECT_FALSE(can_begin(s));
  s.free_pages = 10;
  EXPECT_TRUE(can_begin(s));
  begin(s, 0);
  EXPECT_FALSE(can_begin(s)) << "5 + 1 + 4 + 1 + 1 > 10";
  s.running[0].pages = s.running[1].pages = 0;
  s.free_pages = 3;
  EXPECT_TRUE(can_begin(s));
  begin(s, 0);
  EXPECT_FALSE(can_begin(s));
}

TEST(Scheduler, WhoHasToGoIsTheLastOfTheLeastUrgent) {
  Schedule s{.limits = {.sequences = 9}};
  EXPECT_EQ(victim(s), nullptr);
  for (RequestId id = 1; id <= 4; ++id) {
    submit(s, {.id = id, .prompt = 8, .priority = id == 2 || id == 3 ? 1 : 0});
    begin(s, 8);
  }
  sampled(s, 3, 12, 11);
  EXPECT_EQ(victim(s)->id, 3u);
  preempt(s, 3);
  EXPECT_EQ(victim(s)->id, 2u);
  preempt(s, 2);
  EXPECT_EQ(victim(s)->id, 4u);
  // They come back in their order, with what they know: the prompt, then the answer so far as rows of the absorbed
  // form.
  begin(s, 0);
  begin(s, 4);
  s.limits.prompt_rows = 10;
  EXPECT_EQ(s.running[2].id, 2u);
  EXPECT_EQ(s.running[3].known, 12);
  EXPECT_EQ(s.service[0], 4 * 0 + 4.0) << "what is computed again is no service";
  s.running.erase(s.running.begin(), s.running.begin() + 3);
  EXPECT_EQ(next_pass(s), Pass({{3, 4, true}}));
  ran(s, next_pass(s));
  EXPECT_EQ(next_pass(s), Pass({{3, 4, false}}));
}

TEST(Scheduler, WorkThatNobodyWaitsForBeginsWhenNothingElseRuns) {
  Script s{.schedule = {.limits = {.sequences = 4}}};
  s.arrive({.id = 1, .prompt = 5, .priority = kIdlePriority}, 1);
  s.arrive(2, 5, 2);
  s.arrive({.id = 3, .prompt = 5, .priority = kIdlePriority}, 1);
  EXPECT_EQ(s.step(), Pass({{2, 5, true}}));
  EXPECT_EQ(s.step(), Pass({{2, 1, false}}));
  EXPECT_EQ(s.step(), Pass({{1, 5, true}}));
  EXPECT_EQ(s.step(), Pass({{3, 5, true}}));
}

TEST(Scheduler, APromptThatPausesHasLayersThatFitBetweenThePassesOfOthers) {
  const double slice = prompt_slice(0.1);
  EXPECT_GE(slice, 0.1);
  EXPECT_LE(0.1 + 1.5 * slice, 0.1 * 2.9) << "half a layer more at most";
  EXPECT_EQ(prompt_rows(1024, 1024, 0.5 * slice, slice, 1024), 1024);
  EXPECT_EQ(prompt_rows(1024, 1024, slice, slice, 1024), 512);
  EXPECT_EQ(prompt_rows(512, 512, 0.2 * slice, slice, 1024), 1024);
  EXPECT_EQ(prompt_rows(512, 40, 0.1 * slice, slice, 1024), 512) << "a short one says nothing";
  EXPECT_EQ(prompt_rows(1024, 1024, 0.1 * slice, slice, 1024), 1024);
  EXPECT_EQ(prompt_rows(64, 64, 9 * slice, slice, 1024), 64);
  EXPECT_EQ(prompt_rows(10, 10, 9 * slice, slice, 10), 10);
}

TEST(Scheduler, WhoFollowsAnothersPromptHasNoRows) {
  Schedule s{.limits = {.sequences = 2, .prompt_rows = 10}};
  for (RequestId id = 1; id <= 2; ++id) {
    submit(s, {.id = id, .prompt = 8});
    begin(s, 0);
  }
  s.running[1].behind = 1;
  EXPECT_EQ(next_pass(s), Pass({{1, 8, true}}));
}

TEST(Scheduler, WhoIsRemovedLeavesItsPlaceToOthers) {
  Script s{.schedule = {.limits = {.sequences = 2}}};
  s.arrive(1, 8, 9);
  s.arrive(2, 1, 9);
  s.arrive(3, 1, 9);
  EXPECT_EQ(s.step(), Pass({{1, 8, true}, {2, 1, true}}));
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

TEST(Scheduler, TenantsTakeTurnsWhateverTheyAskFor) {
  Script s;
  for (RequestId id = 1; id <= 4; ++id) s.arrive({.id = id, .prompt = 10, .tenant = 0}, 1);
  for (RequestId id = 5; id <= 7; ++id) s.arrive({.id = id, .prompt = 10, .tenant = 1}, 1);
  EXPECT_EQ(s.order_of_beginning(), (std::vector<RequestId>{1, 5, 2, 6, 3, 7, 4}));
}

TEST(Scheduler, WhoHasHadTheLeastServiceComesFirst) {
  Script s;
  s.arrive({.id = 1, .prompt = 30, .tenant = 0}, 1);
  s.arrive({.id = 2, .prompt = 30, .tenant = 0}, 1);
  for (RequestId id = 3; id <= 6; ++id) s.arrive({.id = id, .prompt = 10, .tenant = 1}, 1);
  EXPECT_EQ(s.order_of_beginning(), (std::vector<RequestId>{1, 3, 4, 5, 2, 6}));
}

TEST(Scheduler, TokensOfAnswersAreServiceToo) {
  Script s;
  s.arrive({.id = 1, .prompt = 1, .tenant = 0}, 100);
  s.arrive({.id = 2, .prompt = 1, .tenant = 1}, 1);
  s.arrive({.id = 3, .prompt = 1, .tenant = 0}, 1);
  for (RequestId id = 4; id <= 6; ++id) s.arrive({.id = id, .prompt = 20, .tenant = 1}, 1);
  EXPECT_EQ(s.order_of_beginning(), (std::vector<RequestId>{1, 2, 4, 5, 6, 3}));
}

TEST(Scheduler, WhoComesBackHasSavedNothingUp) {
  Script s;
  for (RequestId id = 1; id <= 3; ++id) s.arrive({.id = id, .prompt = 50, .tenant = 0}, 1);
  s.step();
  s.step();
  for (RequestId id = 4; id <= 6; ++id) s.arrive({.id = id, .prompt = 10, .tenant = 1}, 1);
  s.arrive({.id = 7, .prompt = 10, .tenant = 0}, 1);
  // 3 is at 150 already; tenant 1 begins where tenant 0 stands and not 150 tokens behind it.
  EXPECT_EQ(s.order_of_beginning(), (std::vector<RequestId>{3, 4, 5, 6, 7}));
}

TEST(Scheduler, LowerPriorityValuesComeFirst) {
  Script s;
  s.arrive({.id = 1, .prompt = 1, .priority = 1, .tenant = 0}, 1);
  s.arrive({.id = 2, .prompt = 1, .priority = 0, .tenant = 0}, 1);
  s.arrive({.id = 3, .prompt = 1, .priority = -1, .tenant = 0}, 1);
  s.arrive({.id = 4, .prompt = 1, .priority = 0, .tenant = 1}, 1);
  EXPECT_EQ(s.order_of_beginning(), (std::vector<RequestId>{3, 4, 2, 1}));
  Script rows{.schedule = {.limits = {.sequences = 2, .prompt_rows = 4}}};
  rows.arrive({.id = 1, .prompt = 6, .priority = 1}, 1);
  EXPECT_EQ(rows.step(), Pass({{1, 4, true}}));
  rows.arrive({.id = 2, .prompt = 5, .priority = 0}, 1);
  EXPECT_EQ(rows.step(), Pass({{2, 4, true}}));
  EXPECT_EQ(rows.step(), Pass({{2, 1, true}, {1, 2, true}}));
}

TEST(Scheduler, DraftsAndWhatIsMadeAgainAreRowsOfTheAbsorbedForm) {
  Schedule schedule{.limits = {.sequences = 3, .prompt_rows = 10}};
  for (RequestId id = 1; id <= 3; ++id) submit(schedule, {.id = id, .prompt = 8});
  schedule.waiting[1].known = 20;
  for (int i = 0; i < 3; ++i) begin(schedule, i == 2 ? 2 : 8);
  sampled(schedule, 1, 9, 8);
  schedule.running[0].drafts = 3;
  EXPECT_EQ(next_pass(schedule), Pass({{1, 4, false}, {2, 10, false}}));
  ran(schedule, next_pass(schedule));
  sampled(schedule, 1, 11, 10);
  schedule.running[0].drafts = 0;
  EXPECT_EQ(next_pass(schedule), Pass({{1, 1, false}, {2, 2, false}, {3, 6, true}}));
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
