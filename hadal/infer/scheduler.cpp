#include "hadal/infer/scheduler.h"

#include <algorithm>
#include <tuple>

#include "hadal/core/error.h"

namespace hadal::infer {
namespace {

ScheduledRequest* find(std::vector<ScheduledRequest>& requests, RequestId id) {
  const auto it =
      std::find_if(requests.begin(), requests.end(), [id](const ScheduledRequest& r) { return r.id == id; });
  return it == requests.end() ? nullptr : &*it;
}

void serve(Schedule& schedule, std::size_t tenant, Index tokens) {
  schedule.service[tenant] += static_cast<double>(tokens);
}

}  // namespace

const ScheduledRequest* next_waiting(const Schedule& schedule) {
  const auto rank = [&](const ScheduledRequest& r) { return std::tuple(r.priority, schedule.service[r.tenant], r.id); };
  const auto it = std::min_element(schedule.waiting.begin(), schedule.waiting.end(),
                                   [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  return it == schedule.waiting.end() ? nullptr : &*it;
}

bool can_begin(const Schedule& schedule) {
  if (schedule.waiting.empty()) return false;
  if (static_cast<Index>(schedule.running.size()) >= schedule.limits.sequences) return false;
  if (next_waiting(schedule)->priority == kIdlePriority && !schedule.running.empty()) return false;
  if (!schedule.free_pages || schedule.running.empty()) return true;
  Index pages = next_waiting(schedule)->pages;
  for (const ScheduledRequest& r : schedule.running) pages += r.pages + 1;
  return pages <= *schedule.free_pages;
}

const ScheduledRequest* victim(const Schedule& schedule) {
  const ScheduledRequest* last = nullptr;
  for (const ScheduledRequest& r : schedule.running)
    if (!last || r.priority >= last->priority) last = &r;
  return last;
}

std::vector<Run> next_pass(const Schedule& schedule) {
  std::vector<const ScheduledRequest*> behind;  // those whose known tokens are not yet in the cache
  std::vector<Run> pass, prompts;
  for (const ScheduledRequest& r : schedule.running)
    if (!r.in_prompt() && r.known - r.done == 1)
      pass.push_back({r.id, 1 + r.drafts, false});
    else if (r.behind == 0 && !r.in_flight)
      behind.push_back(&r);
  std::stable_sort(behind.begin(), behind.end(),
                   [](const auto* a, const auto* b) { return a->priority < b->priority; });
  Index left = schedule.limits.prompt_rows;
  for (const ScheduledRequest* r : behind) {
    if (left == 0) break;
    const Run run{r->id, std::min(left, (r->in_prompt() ? r->prompt : r->known) - r->done), r->in_prompt()};
    (run.prompt ? prompts : pass).push_back(run);
    left -= run.rows;
  }
  pass.insert(pass.end(), prompts.begin(), prompts.end());
  return pass;
}

// Of an inter-token time of one pass and one slice, 1 / 2.1 is the pass; the prompt has the rest.
double prompt_slice(double decode_seconds) {
  return 1.1 * decode_seconds;
}

Index prompt_rows(Index rows, Index had, double layer_seconds, double slice, Index most) {
  constexpr Index kLeast = 64;
  // Whole layers fill a slice well if several fit in.
  if (layer_seconds > 0.7 * slice)
    rows = had / 2;
  else if (layer_seconds < 0.25 * slice && had == rows)
    rows *= 2;
  return std::clamp(rows, std::min(kLeast, most), most);
}

void submit(Schedule& schedule, const ScheduledRequest& request) {
  schedule.service.resize(std::max(schedule.service.size(), request.tenant + 1));
  // Who comes back has saved nothing up meanwhile.
  std::vector<std::size_t> tenants;
  for (const auto* requests : {&schedule.waiting, &schedule.running})
    for (const ScheduledRequest& r : *requests) tenants.push_back(r.tenant);
  if (!tenants.empty() && std::find(tenants.begin(), tenants.end(), request.tenant) == tenants.end()) {
    const auto less = [&](std::size_t a, std::size_t b) { return schedule.service[a] < schedule.service[b]; };
    const std::size_t least = *std::min_element(tenants.begin(), tenants.end(), less);
    double& service = schedule.service[request.tenant];
    service = std::max(service, schedule.service[least]);
  }
  schedule.waiting.push_back(request);
}

void begin(Schedule& schedule, Index cached) {
  HADAL_CHECK(can_begin(schedule), "scheduler: no request can begin");
  const auto next = schedule.waiting.begin() + (next_waiting(schedule) - schedule.waiting.data());
  schedule.running.push_back(*next);
  schedule.running.back().done = cached;
  // At once, so that the next one to begin is somebody else's.
  if (!next->served) serve(schedule, next->tenant, next->prompt - cached);
  schedule.running.back().served = true;
  schedule.waiting.erase(next);
}

void ran(Schedule& schedule, const std::vector<Run>& pass) {
  for (const Run& run : pass)
    if (ScheduledRequest* r = find(schedule.running, run.id)) r->done += run.rows;
}

void sampled(Schedule& schedule, RequestId id, Index known, Index done) {
  if (ScheduledRequest* r = find(schedule.running, id)) {
    serve(schedule, r->tenant, known - r->known);
    r->known = known;
    r->done = done;
  }
}

void draft(Schedule& schedule, RequestId id, Index drafts) {
  if (ScheduledRequest* r = find(schedule.running, id)) r->drafts = drafts;
}

void preempt(Schedule& schedule, RequestId id) {
  ScheduledRequest request = *find(schedule.running, id);
  std::erase_if(schedule.running, [id](const ScheduledRequest& r) { return r.id == id; });
  request.done = request.drafts = request.until = 0;
  request.behind = 0;
  request.in_flight = false;
  schedule.waiting.push_back(request);
}

void remove(Schedule& schedule, RequestId id) {
  const auto is_it = [id](const ScheduledRequest& r) { return r.id == id; };
  std::erase_if(schedule.waiting, is_it);
  std::erase_if(schedule.running, is_it);
}

}  // namespace hadal::infer
