#include "hadal/infer/engine.h"

#include <algorithm>
#include <set>

#include "hadal/core/log.h"
#include "hadal/core/transfer.h"
#include "hadal/ops/elementwise.h"

namespace hadal::infer {
namespace {

// Less of a common prompt is not worth waiting for.
constexpr Index kWorthWaitingFor = 16;
// Rows of prompts that may share a pass with those that decode.
constexpr Index kRidingRows = 32;
// Of the first pass that pauses, before it is known how long a layer takes.
constexpr Index kFirstPausedRows = 128;
// Of work that nobody waits for, between two looks at who has come.
constexpr double kIdleSlice = 0.02;

double seconds_from(Request::Clock::time_point start) {
  return std::chrono::duration<double>(Request::Clock::now() - start).count();
}

}  // namespace

Engine::Engine(Context& ctx, const model::Transformer& transformer, EngineOptions options)
    : ctx_(ctx),
      transformer_(transformer),
      options_(resolve(options, transformer.config)),
      pools_(transformer.new_pools(options_.cache_dtype, options_.max_pages, options_.kept_bytes, ctx.memory)),
      speculator_(options_, transformer),
      tree_(options_.pages_on_disk != nullptr),
      schedule_{.limits = {.sequences = options_.sequences, .prompt_rows = options_.chunk}},
      paused_rows_(std::min(options_.chunk, kFirstPausedRows)) {}

Engine::~Engine() {
  try {
    save_pages();
  } catch (const std::exception& e) {
    log_warning("pages of the cache are not kept: {}", e.what());
  }
}

// Of an answer that has a limit it is known at once that it could not come to its end. The last token needs no place.
void Engine::check_pages(const Request& request) const {
  const auto prompt = static_cast<Index>(request.prompt.size());
  if (options_.max_pages == 0 || options_.context < options_.max_pages * model::kPageTokens) return;
  if (prompt + request.max_tokens - 1 > options_.context)
    throw InvalidRequest(fmt::format(
        "max_tokens: a prompt of {} tokens and an answer of {} need more than the {} pages of {} tokens that "
        "there are; ask for fewer tokens",
        prompt, request.max_tokens, options_.max_pages, model::kPageTokens));
}

RequestId Engine::submit(Request request) {
  validate(request, options_, transformer_.config);
  check_pages(request);
  if (request.priority != kIdlePriority) {
    std::vector<RequestId> idle;
    for (const auto& [other, s] : sequences_)
      if (s->request().priority == kIdlePriority) idle.push_back(other);
    for (const RequestId other : idle) cancel(other);
  }
  const RequestId id = ++last_id_;
  infer::submit(schedule_, {.id = id,
                            .prompt = static_cast<Index>(request.prompt.size()),
                            .priority = request.priority,
                            .tenant = tenants_.try_emplace(request.tenant, tenants_.size()).first->second});
  if (request.deadline) next_deadline_ = std::min(next_deadline_.value_or(*request.deadline), *request.deadline);
  sequences_.emplace(id, std::make_unique<Sequence>(pools_, options_, std::move(request)));
  return id;
}

RequestId Engine::prefill(std::vector<TokenId> ids, std::string cache_salt, CacheReuse reuse) {
  return submit({.prompt = std::move(ids),
                 .max_tokens = kNoAnswer,
                 .reuse = reuse,
                 .cache_salt = std::move(cache_salt),
                 .priority = kIdlePriority});
}

void Engine::begin_waiting() {
  while (!schedule_.waiting.empty() && static_cast<Index>(schedule_.running.size()) < options_.sequences) {
    if (options_.max_pages > 0) count_pages();
    if (!can_begin(schedule_)) return;
    Sequence& next = sequence(next_waiting(schedule_)->id);
    next.begin();
    next.adopt(tree_);
    infer::begin(schedule_, next.length());
    follow(schedule_.running.back());
    begin_loading(schedule_.running.back());
  }
}

// What can_begin asks for.
void Engine::count_pages() {
  schedule_.free_pages = pools_.main->available() + tree_.evictable();
  for (ScheduledRequest& r : schedule_.running) {
    Sequence& s = sequence(r.id);
    r.pages = r.behind == 0 || r.behind == kBehindDisk ? s.pages_wanted(s.known() - s.length()) : 0;
  }
  const RequestId id = next_waiting(schedule_)->id;
  for (ScheduledRequest& r : schedule_.waiting)
    if (r.id == id) r.pages = model::pages_for(r.known + 1) - shared_pages(r);
}

// Of the pages that the next one needs, those that others hold already or are about to make.
Index Engine::shared_pages(const ScheduledRequest& next) {
  Index shared = 0;
  const PrefixTree::Match match = sequence(next.id).find_in(tree_);
  while (shared < match.length / model::kPageTokens && match.pages[static_cast<std::size_t>(shared)]->main.shared())
    ++shared;
  Sequence::Following following;
  leader_of(next, following);
  return std::max(shared, following.length / model::kPageTokens);
}

// Who runs the prompt that this one begins with, too; not somebody who waits for another, or for this one in the end.
const ScheduledRequest* Engine::leader_of(const ScheduledRequest& request, Sequence::Following& following) const {
  const ScheduledRequest* best = nullptr;
  for (const ScheduledRequest& r : schedule_.running) {
    const bool waits = r.behind != 0 && r.behind != kBehindDisk;
    if (r.id == request.id || !r.in_prompt() || waits || r.priority > request.priority) continue;
    const Sequence::Following f = find(request.id)->following(*find(r.id));
    if (f.length > following.length) best = &r, following = f;
  }
  return best;
}

void Engine::follow(ScheduledRequest& request) {
  Sequence::Following following;
  const ScheduledRequest* leader = request.in_prompt() ? leader_of(request, following) : nullptr;
  const bool worth = leader && following.length >= request.done + kWorthWaitingFor;
  request.behind = worth ? leader->id : 0;
  request.until = worth ? following.until : 0;
}

// Those whose prompt somebody else has computed now, or has not and has left, go on.
void Engine::release_followers() {
  for (ScheduledRequest& r : schedule_.running) {
    if (r.behind == 0 || (r.behind == kBehindDisk && !load(r))) continue;
    const auto leader = std::find_if(schedule_.running.begin(), schedule_.running.end(),
                                     [&](const ScheduledRequest& other) { return other.id == r.behind; });
    if (leader != schedule_.running.end() && leader->done < r.until) continue;
    sequence(r.id).adopt(tree_);
    r.done = sequence(r.id).length();
    follow(r);
  }
}

// Of what neither the tree has nor another sequence is about to make.
void Engine::begin_loading(ScheduledRequest& request) {
  PageStore* store = options_.pages_on_disk;
  if (!store || request.behind != 0 || !request.in_prompt()) return;
  Loading loading;
  loading.load = store->load(sequence(request.id).missing_pages(tree_, loading.first));
  if (!loading.load) return;
  loading_.emplace(request.id, std::move(loading));
  request.behind = kBehindDisk;
}

// Takes what has been read. True if there will be no more: the sequence has it.
bool Engine::load(ScheduledRequest& request) {
  Loading& loading = loading_.at(request.id);
  for (;;) {
    const PageStore::Next next = options_.pages_on_disk->next(*loading.load);
    if (!next.record && !next.ended) return false;
    if (!next.record || !make_room(1)) break;
    const Index index = loading.first + static_cast<Index>(loading.pages.size());
    try {
      std::optional<model::SharedPage> page =
          from_record(pools_, *next.record, index, loading.pages.empty() ? nullptr : &loading.pages.back());
      if (!page) break;
      loading.pages.push_back(std::move(*page));
    } catch (const Error& e) {
      log_warning("{}; the prompt is computed from there on", e.what());
      break;
    }
  }
  sequence(request.id).adopt(tree_, loading.first, loading.pages);
  loading_.erase(request.id);
  return true;
}

// Nothing else is to be done until a page has been read.
bool Engine::waits_for_disk() const {
  return !loading_.empty() && !prompts_ && next_pass(schedule_).empty();
}

// What is new in the tree, as far as the disk keeps up.
void Engine::save_pages() {
  PageStore* store = options_.pages_on_disk;
  if (!store) return;
  for (std::optional<PrefixTree::Unsaved> page; store->has_room() && (page = tree_.unsaved()); tree_.saved())
    if (!store->contains(page->name)) store->save(page->name, to_record(pools_, *page->page, page->index));
}

// The pass without those for whom there is no memory: they wait again, the last ones first.
std::vector<Run> Engine::with_room(std::vector<Run> pass) {
  std::vector<const ScheduledRequest*> order;
  for (const ScheduledRequest& r : schedule_.running) order.push_back(&r);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->priority < b->priority; });
  std::vector<RequestId> ids;
  for (const ScheduledRequest* r : order) ids.push_back(r->id);
  std::set<RequestId> gone;
  for (const RequestId id : ids) {
    const auto run = std::find_if(pass.begin(), pass.end(), [id](const Run& r) { return r.id == id; });
    if (run == pass.end()) continue;
    while (!gone.contains(id)) {
      Sequence& s = sequence(id);
      if (make_room(s.pages_wanted(run->rows)) && s.try_reserve(run->rows)) break;
      const RequestId last = victim(schedule_)->id;
      gone.insert(last);
      const bool alone = schedule_.running.size() == 1;
      preempt(last);
      // It holds all there is, and has to copy a page that the tree has too: it begins anew without the tree.
      if (alone) tree_.clear();
    }
  }
  std::erase_if(pass, [&](const Run& run) { return gone.contains(run.id); });
  return pass;
}

// Gives up what was left for others as far as so many pages make it necessary. False if that is not enough.
bool Engine::make_room(Index pages) {
  if (pages == 0) return true;
  model::PagePool& pool = *pools_.main;
  if (options_.max_pages > 0) {
    while (pool.available() < pages && tree_.evict()) {
    }
    return pool.available() >= pages;
  }
  Index running = pages;
  for (const ScheduledRequest& r : schedule_.running) running += sequence(r.id).pages_held();
  most_running_pages_ = std::max(most_running_pages_, running);
  const Index most = std::max(
      most_running_pages_, static_cast<Index>(options_.cached_bytes / std::max<std::uint64_t>(pool.page_bytes(), 1)));
  while (pool.in_use() + pages > most && tree_.evict()) {
  }
  return true;
}

void Engine::preempt(RequestId id) {
  if (pauses(id)) drop_prompts();
  loading_.erase(id);
  sequence(id).leave_to(tree_);
  infer::preempt(schedule_, id);
  ++preemptions_;
}

const Sequence* Engine::find(RequestId id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? nullptr : it->second.get();
}

Index Engine::tokens_done(RequestId id) const {
  const Sequence* s = find(id);
  return s ? s->length() : 0;
}

void Engine::leave(RequestId id) {
  const auto it = sequences_.find(id);
  completions_.emplace(id, it->second->take_completion());
  it->second->leave_to(tree_);
  loading_.erase(id);
  remove(schedule_, id);
  sequences_.erase(it);
}

void Engine::end(RequestId id, FinishReason reason, std::optional<Index> keep) {
  if (const auto it = sequences_.find(id); it != sequences_.end()) {
    if (pauses(id)) drop_prompts();
    it->second->end(reason, keep);
    leave(id);
  } else if (const auto done = completions_.find(id); done != completions_.end()) {
    Completion& completion = done->second;
    const bool behind = keep && *keep < static_cast<Index>(completion.tokens.size());
    if (behind) completion.tokens.resize(static_cast<std::size_t>(*keep));
    if (behind || completion.finish_reason == FinishReason::kLength) completion.finish_reason = reason;
  }
}

Completion Engine::take(RequestId id) {
  const auto it = completions_.find(id);
  HADAL_CHECK(it != completions_.end(), "engine: request {} has not ended, or its answer was taken", id);
  return std::move(completions_.extract(it).mapped());
}

// Those whose time is over.
void Engine::end_late() {
  if (!next_deadline_ || *next_deadline_ > Request::Clock::now()) return;
  const Request::Clock::time_point now = Request::Clock::now();
  std::vector<RequestId> late;
  next_deadline_.reset();
  const auto look_at = [&](RequestId id, const Request& request) {
    if (!request.deadline) return;
    if (*request.deadline <= now)
      late.push_back(id);
    else
      next_deadline_ = std::min(next_deadline_.value_or(*request.deadline), *request.deadline);
  };
  for (const auto& [id, s] : sequences_) look_at(id, s->request());
  for (const RequestId id : late) end(id, FinishReason::kDeadline);
}

std::vector<TokenEvent> Engine::step() {
  end_late();
  release_followers();
  begin_waiting();
  if (waits_for_disk()) {
    options_.pages_on_disk->wait_for_load();
    return {};
  }
  std::vector<TokenEvent> events;
  if (!prompts_) begin_prompts();
  // Its pass may end in this step: the next chunk waits for the next step all the same.
  const bool paused = prompts_.has_value();
  if (paused) go_on_with_prompts(events);
  std::vector<TokenEvent> more = run_pass(paused);
  save_pages();
  if (events.empty()) return more;
  events.insert(events.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  return events;
}

// A pass of those that decode, and of prompts that fit in.
std::vector<TokenEvent> Engine::run_pass(bool prompts_paused) {
  std::vector<Run> pass = next_pass(schedule_);
  if (prompts_paused) std::erase_if(pass, [](const Run& run) { return run.prompt && run.rows > kRidingRows; });
  pass = with_room(std::move(pass));
  if (pass.empty()) return {};
  const bool decodes = std::none_of(pass.begin(), pass.end(), [](const Run& run) { return run.prompt; });
  const std::vector<Rows> rows = rows_of(pass);
  const Workspace::Scope scope(ctx_.workspace);
  const auto start = Request::Clock::now();
  const TensorRef hidden = compute(rows);
  ran(schedule_, pass);
  std::vector<TokenEvent> events = sample(hidden, rows);
  const double seconds = seconds_from(start);
  if (decodes) decode_seconds_ = decode_seconds_ == 0 ? seconds : 0.8 * decode_seconds_ + 0.2 * seconds;
  speculate(hidden, rows, seconds);
  return events;
}

// If prompts would hold those up that decode, or whoever may come, their pass is one that pauses.
void Engine::begin_prompts() {
  schedule_.limits.prompt_rows = paused_rows_;
  std::vector<Run> pass = next_pass(schedule_);
  schedule_.limits.prompt_rows = options_.chunk;
  const bool others = std::any_of(pass.begin(), pass.end(), [](const Run& run) { return !run.prompt; });
  std::erase_if(pass, [](const Run& run) { return !run.prompt; });
  Index rows = 0;
  for (const Run& run : pass) rows += run.rows;
  const bool idle = !schedule_.running.empty() && schedule_.running.back().priority == kIdlePriority;
  if (rows <= kRidingRows || !((others && options_.pause_prompts) || idle)) return;
  pass = with_room(std::move(pass));
  if (pass.empty()) return;
  std::vector<Rows> all = rows_of(pass);
  std::vector<model::Segment> segments;
  for (const Rows& r : all) segments.push_back(r.sequence->next(r.count));
  auto paused = std::make_unique<model::PausedPass>(ctx_, transformer_, segments);
  for (ScheduledRequest& r : schedule_.running)
    r.in_flight = std::any_of(pass.begin(), pass.end(), [&](const Run& run) { return run.id == r.id; });
  prompts_ = Prompts{std::move(pass), std::move(all), std::move(paused)};
}

void Engine::go_on_with_prompts(std::vector<TokenEvent>& events) {
  const bool idle = schedule_.running.back().priority == kIdlePriority;
  const bool alone = std::none_of(schedule_.running.begin(), schedule_.running.end(),
                                  [](const ScheduledRequest& r) { return !r.in_prompt(); });
  const double slice = idle ? kIdleSlice : prompt_slice(decode_seconds_);
  const Workspace::Scope scope(ctx_.workspace);
  const auto start = Request::Clock::now();
  double at = 0;
  const auto go_on = [&] {
    const double now = seconds_from(start), layer = now - at;
    at = now;
    prompts_->longest = std::max(prompts_->longest, layer);
    return (alone && !idle) || now + layer / 2 < slice;
  };
  try {
    const bool done = prompts_->pass->run(ctx_, go_on);
    prompts_->seconds += seconds_from(start);
    if (!done) return;
    const TensorRef hidden = prompts_->pass->hidden(ctx_);
    look_at_prompts(hidden, prompts_->rows);
    const Prompts finished = std::move(*prompts_);
    prompts_.reset();
    for (ScheduledRequest& r : schedule_.running) r.in_flight = false;
    ran(schedule_, finished.runs);
    events = sample(hidden, finished.rows);
    if (!alone && !idle)
      paused_rows_ = prompt_rows(paused_rows_, finished.pass->tokens(), finished.longest, slice, options_.chunk);
    speculate(hidden, finished.rows, finished.seconds);
  } catch (...) {
    drop_prompts();
    throw;
  }
}

bool Engine::pauses(RequestId id) const {
  return prompts_ &&
         std::any_of(prompts_->runs.begin(), prompts_->runs.end(), [id](const Run& run) { return run.id == id; });
}

// Its sequences are where they were before it.
void Engine::drop_prompts() {
  if (!prompts_) return;
  for (const Rows& r : prompts_->rows)
    if (Sequence* s = find(r.id)) s->rewind(r.before);
  for (ScheduledRequest& r : schedule_.running) r.in_flight = false;
  prompts_.reset();
}

// For those that go on: drafts for their next pass.
void Engine::speculate(const TensorRef& hidden, const std::vector<Rows>& rows, double seconds) {
  if (options_.speculate == Speculate::kOff) return;
  std::vector<Speculator::Passed> passed;
  for (const Rows& r : rows)
    if (Sequence* s = find(r.id)) passed.push_back({*s, r.begin, s->length() - r.before, r.before, r.prompt});
  speculator_.passed(ctx_, hidden, passed, seconds);
  for (const Rows& r : rows)
    if (const Sequence* s = find(r.id)) draft(schedule_, r.id, s->drafts());
}

std::vector<Engine::Rows> Engine::rows_of(const std::vector<Run>& pass) {
  std::vector<Rows> rows;
  for (const Run& run : pass) {
    Sequence& s = sequence(run.id);
    rows.push_back({run.id, &s, rows.empty() ? 0 : rows.back().end(), run.rows, s.length(), s.in_prompt()});
  }
  return rows;
}

// Runs the pass. What throws on the way leaves every cache as long as it was.
TensorRef Engine::compute(const std::vector<Rows>& rows) {
  std::vector<model::Segment> segments;
  for (const Rows& r : rows) segments.push_back(r.sequence->next(r.count));
  begin_masks(rows);
  try {
    const TensorRef hidden = transformer_.hidden(ctx_, segments);
    masks_.wait();
    look_at_prompts(hidden, rows);
    return hidden;
  } catch (...) {
    masks_.wait();
    for (const Rows& r : rows) r.sequence->rewind(r.before);
    throw;
  }
}

// Of those that will sample behind this pass.
void Engine::begin_masks(const std::vector<Rows>& rows) {
  std::vector<std::function<void()>> jobs;
  for (const Rows& r : rows) {
    Sequence* s = r.sequence;
    if (s->constrained() && s->wants_token() && r.before + r.count >= s->known())
      jobs.push_back([s] { s->make_mask(); });
  }
  masks_.begin(std::move(jobs));
}

// What requests want of their prompts' rows.
void Engine::look_at_prompts(const TensorRef& hidden, const std::vector<Rows>& rows) {
  for (const Rows& r : rows) add_logprobs(hidden, r);
  for (const Rows& r : rows)
    if (r.sequence->pools()) r.sequence->pool(r.before, OnHost(ctx_, hidden.rows(r.begin, r.end()))->view<float, 2>());
}

// In pieces: logits of a long prompt would take more memory than all else.
void Engine::add_logprobs(const TensorRef& hidden, const Rows& rows) {
  constexpr Index kPiece = 64;
  const auto [from, to] = rows.sequence->logprob_rows(rows.before, rows.count);
  for (Index begin = from, end = 0; begin < to; begin = end) {
    end = std::min(begin + kPiece, to);
    const Workspace::Scope scope(ctx_.workspace);
    const OnHost all(ctx_, transformer_.logits(ctx_, hidden.rows(rows.begin + begin, rows.begin + end)));
    const auto logits = all->view<float, 2>();
    std::vector<Sample> samples(static_cast<std::size_t>(end - begin));
    ctx_.threads.parallel_for(end - begin, 1, [&](Index i, Index) {
      samples[static_cast<std::size_t>(i)] = rows.sequence->prompt_logprob(
          {logits.row(i), static_cast<std::size_t>(logits.shape[1])}, rows.before + begin + i);
    });
    rows.sequence->add_prompt_logprobs(std::move(samples));
  }
}

// hidden: the rows of the pass. Tokens for each sequence whose known ones are all in the cache.
std::vector<TokenEvent> Engine::sample(const TensorRef& hidden, const std::vector<Rows>& rows) {
  std::vector<const Rows*> ready;
  std::vector<Index> row_ids, first, drafted;
  for (const Rows& r : rows) {
    if (r.before < r.sequence->prompt_tokens()) r.sequence->publish(tree_);
    if (r.sequence->length() < r.sequence->known()) continue;
    if (r.before < r.sequence->prompt_tokens()) r.sequence->prompt_ended();
    if (!r.sequence->wants_token()) {
      r.sequence->end(FinishReason::kStop);
      leave(r.id);
      continue;
    }
    ready.push_back(&r);
    first.push_back(static_cast<Index>(row_ids.size()));
    drafted.push_back(r.sequence->drafts());
    for (Index row = r.end() - r.sequence->sampled_rows(); row < r.end(); ++row) row_ids.push_back(row);
  }
  if (ready.empty()) return {};
  const OnHost all_logits(ctx_, transformer_.logits(ctx_, ops::gather_rows(ctx_, hidden, row_ids)));
  std::vector<std::vector<Sample>> samples(ready.size());
  ctx_.threads.parallel_for(static_cast<Index>(ready.size()), 1, [&](Index i, Index) {
    const auto n = static_cast<std::size_t>(i);
    Sequence& s = *ready[n]->sequence;
    samples[n] = s.sample(all_logits->rows(first[n], first[n] + s.sampled_rows()).view<float, 2>());
  });
  for (const Rows* r : ready) r->sequence->drop_wrong_drafts();
  ctx_.observe("sampled", *all_logits);
  std::vector<TokenEvent> events;
  for (std::size_t i = 0; i < ready.size(); ++i) {
    const RequestId id = ready[i]->id;
    const Sequence& s = *ready[i]->sequence;
    speculator_.verified(s.draft_source(), drafted[i], static_cast<Index>(samples[i].size()) - 1);
    Index number = s.known() - s.prompt_tokens() - static_cast<Index>(samples[i].size());
    for (Sample& sample : samples[i]) events.push_back({id, std::move(sample), ++number, false});
    if (s.ended() && !samples[i].empty()) events.back().ended = true;
    sampled(schedule_, id, s.known(), s.length());
    if (s.ended()) leave(id);
  }
  return events;
}

Completion Engine::generate(Request request, const OnToken& on_token, const OnPrompt& on_prompt) {
  const auto total = static_cast<Index>(request.prompt.size());
  const RequestId id = submit(std::move(request));
  try {
    while (!ended(id)) {
      const Index done = tokens_done(id);
      if (on_prompt && done < total && !on_prompt(done, total)) cancel(id);
      if (ended(id)) break;
      bool go_on = true;
      for (const TokenEvent& event : step())
        if (event.id == id && on_token && go_on) go_on = obey(*this, event, on_token(event.sample));
    }
  } catch (const Interrupted&) {
    cancel(id);
  } catch (...) {
    cancel(id);
    take(id);
    throw;
  }
  Completion completion = take(id);
  if (completion.finish_reason == FinishReason::kError) throw Error(completion.error);
  return completion;
}

bool obey(Engine& engine, const TokenEvent& event, Continue go_on) {
  if (go_on == Continue::kYes) return true;
  engine.end(event.id, go_on == Continue::kStop ? FinishReason::kStop : FinishReason::kCancelled, event.number);
  return false;
}

}  // namespace hadal::infer
