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
      schedule_{
          .limits = {.sequences = options_.sequences, .prompt_rows = options_.chunk, .pages = options_.max_pages}} {
  for (Index i = 0; i < options_.sequences; ++i) slots_.push_back({.sequence = Sequence(pools_, options_)});
}

Index Engine::pages_of(const Request& request) const {
  const auto prompt = static_cast<Index>(request.prompt.size());
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
  infer::submit(schedule_, {.id = id, .prompt = static_cast<Index>(request.prompt.size()), .pages = pages});
  waiting_.emplace(id, std::move(request));
  begin_waiting();
  return id;
}

void Engine::begin_waiting() {
  while (can_begin(schedule_)) {
    const RequestId id = schedule_.waiting.front().id;
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

void Engine::end(RequestId id, FinishReason reason) {
  if (Slot* slot = find(id)) {
    slot->sequence.end(reason);
    leave(*slot);
  } else if (auto waiting = waiting_.extract(id)) {
    remove(schedule_, id);
    Completion& completion = completions_[id];
    completion.finish_reason = reason;
    completion.prompt_tokens = static_cast<Index>(waiting.mapped().prompt.size());
  } else if (const auto it = completions_.find(id);
             it != completions_.end() && it->second.finish_reason == FinishReason::kLength) {
    it->second.finish_reason = reason;
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

std::vector<TokenEvent> Engine::step() {
  begin_waiting();
  const std::vector<Run> pass = next_pass(schedule_);
  if (pass.empty()) return {};
  const Workspace::Scope scope(ctx_.workspace);
  const std::vector<Sampled> sampled = compute(pass);
  ran(schedule_, pass);
  std::vector<TokenEvent> events;
  for (const auto& [slot, sample] : sampled) {
    slot->sequence.accept(sample);
    events.push_back({slot->id, sample, slot->sequence.ended()});
    if (slot->sequence.ended()) leave(*slot);
  }
  return events;
}

// Runs the pass and samples. What throws on the way leaves every cache as long as it was.
std::vector<Engine::Sampled> Engine::compute(const std::vector<Run>& pass) {
  std::vector<model::Segment> segments;
  std::vector<std::pair<Sequence*, Index>> before;
  for (const Run& run : pass) {
    Sequence& sequence = find(run.id)->sequence;
    before.emplace_back(&sequence, sequence.length());
    segments.push_back(sequence.next(run.rows));
  }
  try {
    return sample(transformer_.hidden(ctx_, segments), pass);
  } catch (...) {
    for (const auto& [sequence, length] : before) sequence->rewind(length);
    throw;
  }
}

// hidden: the rows of the pass. A token for each sequence that is through with its prompt.
std::vector<Engine::Sampled> Engine::sample(const TensorRef& hidden, const std::vector<Run>& pass) {
  std::vector<Sampled> sampled;
  std::vector<Index> last_rows;
  Index row = 0;
  for (const Run& run : pass) {
    row += run.rows;
    Slot* slot = find(run.id);
    if (slot->sequence.in_prompt()) continue;
    if (run.prompt) slot->sequence.prompt_ended();
    sampled.emplace_back(slot, Sample{});
    last_rows.push_back(row - 1);
  }
  if (sampled.empty()) return sampled;
  const OnHost all_logits(ctx_, transformer_.logits(ctx_, ops::gather_rows(ctx_, hidden, last_rows)));
  const auto logits = all_logits->view<float, 2>();
  ctx_.threads.parallel_for(static_cast<Index>(sampled.size()), 1, [&](Index i, Index) {
    auto& [slot, sample] = sampled[static_cast<std::size_t>(i)];
    sample = slot->sequence.sample({logits.row(i), static_cast<std::size_t>(logits.shape[1])});
  });
  ctx_.observe("sampled", *all_logits);
  return sampled;
}

Completion Engine::generate(Request request, const OnToken& on_token, const OnPrompt& on_prompt) {
  const auto total = static_cast<Index>(request.prompt.size());
  const RequestId id = submit(std::move(request));
  try {
    while (!ended(id)) {
      const Index done = tokens_done(id);
      if (on_prompt && done < total && !on_prompt(done, total)) cancel(id);
      for (const TokenEvent& event : ended(id) ? std::vector<TokenEvent>() : step())
        if (event.id == id && on_token) obey(*this, id, on_token(event.sample));
    }
  } catch (const Interrupted&) {
    cancel(id);
  } catch (...) {
    cancel(id);
    take(id);
    throw;
  }
  return take(id);
}

void obey(Engine& engine, RequestId id, Continue go_on) {
  if (go_on == Continue::kStop) engine.end(id, FinishReason::kStop);
  if (go_on == Continue::kCancel) engine.cancel(id);
}

}  // namespace hadal::infer
