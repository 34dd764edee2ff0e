#include "hadal/infer/batch_engine.h"

namespace hadal::infer {

BatchEngine::BatchEngine(Context& ctx, const model::Transformer& transformer, EngineOptions options, Index batch)
    : ctx_(ctx), transformer_(transformer), options_(resolve(options, transformer.config)) {
  HADAL_CHECK(batch >= 1, "batch: {} is not at least 1", batch);
  for (Index i = 0; i < batch; ++i) slots_.push_back({.sequence = Sequence(transformer, options_)});
}

void BatchEngine::generate(std::span<const Request> requests, const OnBatchToken& on_token,
                           const OnCompletion& on_completion) {
  for (const Request& request : requests) validate(request, options_, transformer_.config);
  for (Slot& slot : slots_) slot.busy = false;
  std::size_t next = 0;
  fill(requests, next, on_token);
  while (run_pass()) {
    report(on_completion);
    fill(requests, next, on_token);
  }
}

// Gives the requests that wait to the slots that are free.
void BatchEngine::fill(std::span<const Request> requests, std::size_t& next, const OnBatchToken& on_token) {
  for (Slot& slot : slots_) {
    if (slot.busy || next == requests.size()) continue;
    const std::size_t index = next++;
    slot.request = index;
    slot.busy = true;
    slot.sequence.start(requests[index], [&on_token, index](const Sample& sample) {
      return on_token ? on_token(index, sample) : Continue::kYes;
    });
  }
}

// Prompts first, a chunk of as many as fit; otherwise a token for each sequence. False: none is left.
bool BatchEngine::run_pass() {
  std::vector<Sequence*> prompts, answers;
  for (Slot& slot : slots_)
    if (slot.busy) (slot.sequence.in_prompt() ? prompts : answers).push_back(&slot.sequence);
  if (prompts.empty() && answers.empty()) return false;
  if (prompts.empty())
    infer::run_pass(ctx_, transformer_, answers, static_cast<Index>(answers.size()));
  else
    infer::run_pass(ctx_, transformer_, prompts, options_.chunk);
  return true;
}

void BatchEngine::report(const OnCompletion& on_completion) {
  for (Slot& slot : slots_) {
    if (!slot.busy || !slot.sequence.ended()) continue;
    slot.busy = false;
    on_completion(slot.request, slot.sequence.completion());
  }
}

}  // namespace hadal::infer
