#include "hadal/infer/engine.h"

#include <algorithm>

#include "hadal/core/transfer.h"
#include "hadal/ops/elementwise.h"

namespace hadal::infer {
Engine::Engine(Context& ctx, const model::Transformer& transformer, EngineOptions options)
    : ctx_(ctx),
      transformer_(transformer),
      options_(resolve(options, transformer.config)),
      pools_(transformer.new_pools(options_.cache_dtype, options_.max_pages, options_.kept_bytes, ctx.memory)),
      speculator_(options_, transformer),
      schedule_{
          .limits = {.sequences = options_.sequences, .prompt_rows = options_.chunk, .pages = options_.max_pages}} {
  for (Index i = 0; i < options_.sequences; ++i) slots_.push_back({.sequence = Sequence(pools_, options_)});
}

Index Engine::pages_of(const Request& request) const {
  const auto prompt = static_cast<Index>(request.prompt.size());
  if (request.max_tokens == kNoAnswer) return model::pages_for(prompt);
  const Index most =
      request.max_tokens > 0 ? std::min(options_.context - prompt, request.max_tokens) : options_.context - prompt;
  return model::pages_for(prompt + most);
}

RequestId Engine::submit(Request request) {
  validate(request, options_, transformer_.config);
  const Index pages = pages_of(request);
  if (options_.max_pages > 0 && pages > options_.max_pages)
    throw InvalidRequest(
        fmt::format("max_tokens: a prompt of {} tokens and its answer could need {} pages of {} tokens, "
                    "there are {}; ask for fewer tokens",
                    request.prompt.size(), pages, model::kPageTokens, options_.max_pages));
  const RequestId id = ++last_id_;
  infer::submit(schedule_, {.id = id,
                            .prompt = static_cast<Index>(request.prompt.size()),
                            .pages = pages,
                            .priority = request.priority,
                            .tenant = tenants_.try_emplace(request.tenant, tenants_.size()).first->second});
  if (request.deadline) next_deadline_ = std::min(next_deadline_.value_or(*request.deadline), *request.deadline);
  waiting_.emplace(id, std::move(request));
  begin_waiting();
  return id;
}

void Engine::begin_waiting() {
  while (can_begin(schedule_)) {
    const RequestId id = next_waiting(schedule_)->id;
    Request request = std::move(waiting_.extract(id).mapped());
    Slot& slot = free_slot_for(request);
    slot.id = id;
    slot.sequence.start(std::move(request));
    begin(schedule_, slot.sequence.length());
    make_room();
  }
}

// What ended sequences left is forgotten as far as those that run could come to need its pages.
void Engine::make_room() {
  if (options_.max_pages == 0) return;
  Index pages = 0;
  for (const ScheduledRequest& r : schedule_.running) pages += r.pages;
  for (const Slot& slot : slots_)
    if (slot.id == 0) pages += model::pages_for(slot.sequence.length());
  for (Slot& slot : slots_) {
    if (pages <= options_.max_pages) return;
    if (slot.id != 0) continue;
    pages -= model::pages_for(slot.sequence.length());
    slot.sequence.forget();
  }
}

// The one whose cache serves best.
Engine::Slot& Engine::free_slot_for(const Request& request) {
  Slot* best = nullptr;
  Index most = -1;
  for (Slot& slot : slots_) {
    if (slot.id != 0) continue;
    const Index prefix = slot.sequence.reusable_prefix(request);
    if (prefix > most) best = &slot, most = prefix;
  }
  return *best;
}

const Engine::Slot* Engine::find(RequestId id) const {
  const auto it = std::find_if(slots_.begin(), slots_.end(), [id](const Slot& s) { return s.id == id; });
  return it == slots_.end() ? nullptr : &*it;
}

Index Engine::tokens_done(RequestId id) const {
  const Slot* slot = find(id);
  return slot ? slot->sequence.length() : 0;
}

// The slot of a sequence that has ended becomes free.
void Engine::leave(Slot& slot) {
  completions_.emplace(slot.id, slot.sequence.take_completion());
  remove(schedule_, slot.id);
  slot.id = 0;
}

void Engine::end(RequestId id, FinishReason reason, std::optional<Index> keep) {
  if (Slot* slot = find(id)) {
    slot->sequence.end(reason, keep);
    leave(*slot);
  } else if (auto waiting = waiting_.extract(id)) {
    remove(schedule_, id);
    Completion& completion = completions_[id];
    completion.finish_reason = reason;
    completion.prompt_tokens = static_cast<Index>(waiting.mapped().prompt.size());
  } else if (const auto it = completions_.find(id); it != completions_.end()) {
    Completion& completion = it->second;
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

void Engine::reset() {
  for (Slot& slot : slots_)
    if (slot.id == 0) slot.sequence.forget();
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
  for (const auto& [id, request] : waiting_) look_at(id, request);
  for (const Slot& slot : slots_)
    if (slot.id != 0) look_at(slot.id, slot.sequence.request());
  for (const RequestId id : late) end(id, FinishReason::kDeadline);
}

std::vector<TokenEvent> Engine::step() {
  end_late();
  begin_waiting();
  const std::vector<Run> pass = next_pass(schedule_);
  if (pass.empty()) return {};
  const std::vector<Rows> rows = rows_of(pass);
  const Workspace::Scope scope(ctx_.workspace);
  const auto start = Request::Clock::now();
  const TensorRef hidden = compute(rows);
  ran(schedule_, pass);
  std::vector<TokenEvent> events = sample(hidden, rows);
  speculate(hidden, rows, std::chrono::duration<double>(Request::Clock::now() - start).count());
  return events;
}

// For those that go on: drafts for their next pass.
void Engine::speculate(const TensorRef& hidden, const std::vector<Rows>& rows, double seconds) {
  if (options_.speculate == Speculate::kOff) return;
  std::vector<Speculator::Passed> passed;
  for (const Rows& r : rows) {
    if (r.slot->id == 0) continue;
    Sequence& sequence = r.slot->sequence;
    passed.push_back({sequence, r.begin, sequence.length() - r.before, r.before, r.prompt});
  }
  speculator_.passed(ctx_, hidden, passed, seconds);
  for (const Rows& r : rows)
    if (r.slot->id != 0) draft(schedule_, r.slot->id, r.slot->sequence.drafts());
}

std::vector<Engine::Rows> Engine::rows_of(const std::vector<Run>& pass) {
  std::vector<Rows> rows;
  for (const Run& run : pass) {
    Slot* slot = find(run.id);
    rows.push_back(
        {slot, rows.empty() ? 0 : rows.back().end(), run.rows, slot->sequence.length(), slot->sequence.in_prompt()});
  }
  return rows;
}

// Runs the pass. What throws on the way leaves every cache as long as it was.
TensorRef Engine::compute(const std::vector<Rows>& rows) {
  std::vector<model::Segment> segments;
  for (const Rows& r : rows) segments.push_back(r.slot->sequence.next(r.count));
  begin_masks(rows);
  try {
    const TensorRef hidden = transformer_.hidden(ctx_, segments);
    masks_.wait();
    look_at_prompts(hidden, rows);
    return hidden;
  } catch (...) {
    masks_.wait();
    for (const Rows& r : rows) r.slot->sequence.rewind(r.before);
    throw;
  }
}

// Of those that will sample behind this pass.
void Engine::begin_masks(const std::vector<Rows>& rows) {
  std::vector<std::function<void()>> jobs;
  for (const Rows& r : rows) {
    Sequence& sequence = r.slot->sequence;
    if (sequence.constrained() && sequence.wants_token() && r.before + r.count >= sequence.known())
      jobs.push_back([&sequence] { sequence.make_mask(); });
  }
  masks_.begin(std::move(jobs));
}

// What requests want of their prompts' rows.
void Engine::look_at_prompts(const TensorRef& hidden, const std::vector<Rows>& rows) {
  for (const Rows& r : rows) add_logprobs(hidden, r);
  for (const Rows& r : rows)
    if (r.slot->sequence.pools())
      r.slot->sequence.pool(r.before, OnHost(ctx_, hidden.rows(r.begin, r.end()))->view<float, 2>());
}

// In pieces: logits of a long prompt would take more memory than all else.
void Engine::add_logprobs(const TensorRef& hidden, const Rows& rows) {
  constexpr Index kPiece = 64;
  const Sequence& sequence = rows.slot->sequence;
  const Index wanted = sequence.logprob_rows(rows.before, rows.count);
  for (Index begin = 0, end = 0; begin < wanted; begin = end) {
    end = std::min(begin + kPiece, wanted);
    const Workspace::Scope scope(ctx_.workspace);
    const OnHost all(ctx_, transformer_.logits(ctx_, hidden.rows(rows.begin + begin, rows.begin + end)));
    const auto logits = all->view<float, 2>();
    std::vector<Sample> samples(static_cast<std::size_t>(end - begin));
    ctx_.threads.parallel_for(end - begin, 1, [&](Index i, Index) {
      samples[static_cast<std::size_t>(i)] =
          sequence.prompt_logprob({logits.row(i), static_cast<std::size_t>(logits.shape[1])}, rows.before + begin + i);
    });
    rows.slot->sequence.add_prompt_logprobs(std::move(samples));
  }
}

// hidden: the rows of the pass. Tokens for each sequence whose known ones are all in the cache.
std::vector<TokenEvent> Engine::sample(const TensorRef& hidden, const std::vector<Rows>& rows) {
  std::vector<Slot*> ready;
  std::vector<Index> row_ids, first, drafted;
  for (const Rows& r : rows) {
    Sequence& sequence = r.slot->sequence;
    if (sequence.length() < sequence.known()) continue;
    if (r.before < sequence.prompt_tokens()) sequence.prompt_ended();
    if (!sequence.wants_token()) {
      sequence.end(FinishReason::kStop);
      leave(*r.slot);
      continue;
    }
    ready.push_back(r.slot);
    first.push_back(static_cast<Index>(row_ids.size()));
    drafted.push_back(sequence.drafts());
    for (Index row = r.end() - sequence.sampled_rows(); row < r.end(); ++row) row_ids.push_back(row);
  }
  if (ready.empty()) return {};
  const OnHost all_logits(ctx_, transformer_.logits(ctx_, ops::gather_rows(ctx_, hidden, row_ids)));
  std::vector<std::vector<Sample>> samples(ready.size());
  ctx_.threads.parallel_for(static_cast<Index>(ready.size()), 1, [&](Index i, Index) {
    const auto n = static_cast<std::size_t>(i);
    Sequence& sequence = ready[n]->sequence;
    samples[n] = sequence.sample(all_logits->rows(first[n], first[n] + sequence.sampled_rows()).view<float, 2>());
  });
  ctx_.observe("sampled", *all_logits);
  std::vector<TokenEvent> events;
  for (std::size_t i = 0; i < ready.size(); ++i) {
    const Sequence& sequence = ready[i]->sequence;
    speculator_.verified(sequence.draft_source(), drafted[i], static_cast<Index>(samples[i].size()) - 1);
    Index number = sequence.known() - sequence.prompt_tokens() - static_cast<Index>(samples[i].size());
    for (const Sample& s : samples[i]) events.push_back({ready[i]->id, s, ++number, false});
    if (sequence.ended() && !samples[i].empty()) events.back().ended = true;
    sampled(schedule_, ready[i]->id, sequence.known(), sequence.length());
    if (sequence.ended()) leave(*ready[i]);
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
