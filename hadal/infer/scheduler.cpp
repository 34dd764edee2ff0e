#include "hadal/infer/scheduler.h"

#include <algorithm>

#include "hadal/core/error.h"

namespace hadal::infer {

bool can_begin(const Schedule& schedule) {
  if (schedule.waiting.empty()) return false;
  if (static_cast<Index>(schedule.running.size()) >= schedule.limits.sequences) return false;
  if (schedule.limits.pages == 0) return true;
  Index pages = schedule.waiting.front().pages;
  for (const ScheduledRequest& r : schedule.running) pages += r.pages;
  return pages <= schedule.limits.pages;
}

std::vector<Run> next_pass(const Schedule& schedule) {
  std::vector<Run> pass;
  for (const ScheduledRequest& r : schedule.running)
    if (!r.in_prompt()) pass.push_back({r.id, 1, false});
  Index left = schedule.limits.prompt_rows;
  for (const ScheduledRequest& r : schedule.running) {
    if (!r.in_prompt() || left == 0) continue;
    pass.push_back({r.id, std::min(left, r.prompt - r.done), true});
    left -= pass.back().rows;
  }
  return pass;
}

void submit(Schedule& schedule, const ScheduledRequest& request) {
  schedule.waiting.push_back(request);
}

void begin(Schedule& schedule, Index cached) {
  HADAL_CHECK(can_begin(schedule), "scheduler: no request can begin");
  schedule.running.push_back(schedule.waiting.front());
  schedule.running.back().done = cached;
  schedule.waiting.pop_front();
}

void ran(Schedule& schedule, const std::vector<Run>& pass) {
  for (const Run& run : pass)
    for (ScheduledRequest& r : schedule.running)
      if (r.id == run.id) r.done += run.rows;
}

void remove(Schedule& schedule, RequestId id) {
  const auto is_it = [id](const ScheduledRequest& r) { return r.id == id; };
  std::erase_if(schedule.waiting, is_it);
  std::erase_if(schedule.running, is_it);
}

}  // namespace hadal::infer
