// Which sequences run in the next pass over the model, and how many rows of each. Pure functions of a state: no
// tensors, no clock, no threads, so that every decision can be tested by a script of arrivals.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "hadal/core/tensor.h"

namespace hadal::infer {

// Work that nobody waits for has this priority: it runs when nothing else does.
inline constexpr int kIdlePriority = std::numeric_limits<int>::max();

// Counts up from 1 in the order of submission.
using RequestId = std::uint64_t;

// Instead of a sequence that is waited for: pages of the prompt that are being read.
inline constexpr RequestId kBehindDisk = std::numeric_limits<RequestId>::max();

struct ScheduleLimits {
  Index sequences = 1;       // that run at a time
  Index prompt_rows = 1024;  // of a pass, all prompts together
};

// A request as the scheduler sees it.
struct ScheduledRequest {
  RequestId id = 0;
  Index prompt = 0;        // tokens of the prompt
  Index done = 0;          // tokens that the cache holds
  Index pages = 0;         // of those that are free, what it will take to run its known tokens
  int priority = 0;        // lower ones first
  std::size_t tenant = 0;  // who asks: an index into Schedule::service
  Index known = prompt;    // tokens: the prompt and what was sampled
  Index drafts = 0;        // rows behind the last known token that its next pass is to verify
  bool served = false;     // its prompt has been counted as service
  // A sequence that computes the same prompt, until it has done so many tokens of it: it is waited for. 0: none.
  RequestId behind = 0;
  bool in_flight = false;  // in a pass that pauses: no rows in others
  Index until = 0;
  bool in_prompt() const { return done < prompt; }
  friend bool operator==(const ScheduledRequest&, const ScheduledRequest&) = default;
};

struct Schedule {
  ScheduleLimits limits = {};
  std::vector<ScheduledRequest> waiting = {};  // in the order in which they came
  std::vector<ScheduledRequest> running = {};  // in the order in which they began
  std::vector<double> service = {};            // of each tenant: tokens that were run for it
  std::optional<Index> free_pages = {};        // of the cache, or kept for nobody in particular; nullopt: no limit
};

// Rows of one sequence in a pass: the next tokens of its prompt in the expanded form, or in the absorbed one what was
// sampled last and drafts behind it, or tokens sampled earlier whose entries are to be made again.
struct Run {
  RequestId id = 0;
  Index rows = 0;
  bool prompt = false;
  friend bool operator==(const Run&, const Run&) = default;
};

// Who of those that wait is the next to begin: the lowest priority value; among equals who asks for a tenant that has
// had the least service; then who came first. nullptr if nobody waits.
const ScheduledRequest* next_waiting(const Schedule& schedule);

// Whether the next one may begin now: there is a place for it, and pages for what it knows, beside those that the
// others are still to take for what they know and one for each to grow. Nobody overtakes it. Alone it may always begin.
bool can_begin(const Schedule& schedule);

// Who has to go back to those that wait when there are no pages left: the highest priority value, and of those who
// began last. nullptr if nobody runs.
const ScheduledRequest* victim(const Schedule& schedule);

// The next pass: the rows of each sequence that decodes, and of the prompts as many rows as the limit allows, the
// lowest priority value and then the sequence that began first going first. Those in the absorbed form come first.
// Who waits for another's prompt has none. Empty if nothing runs.
std::vector<Run> next_pass(const Schedule& schedule);

// A pass over prompts of which pauses between layers while others decode: how long it may go on between two of their
// passes, which take so long, and how many rows the next one should have at most, when that was `rows` and one layer of
// a pass of `had` rows has taken so long (both in seconds). Large ones use the weights better, but a layer is not cut.
double prompt_slice(double decode_seconds);
Index prompt_rows(Index rows, Index had, double layer_seconds, double slice, Index most);

// What happened, by which a schedule becomes the next one.
void submit(Schedule& schedule, const ScheduledRequest& request);
void begin(Schedule& schedule, Index cached);  // the next one; `cached` tokens are there already
void ran(Schedule& schedule, const std::vector<Run>& pass);
// After a pass that sampled for it: so many tokens are known now, so many of them are in the cache.
void sampled(Schedule& schedule, RequestId id, Index known, Index done);
void draft(Schedule& schedule, RequestId id, Index drafts);  // behind the last known token, for its next pass
void preempt(Schedule& schedule, RequestId id);  // it waits again, with what it knows and nothing in the cache
void remove(Schedule& schedule, RequestId id);   // ended or cancelled, waiting or running

}  // namespace hadal::infer
