#include "hadal/infer/batch_engine.h"

#include <set>

namespace hadal::infer {
namespace {

EngineOptions with_sequences(EngineOptions options, Index batch) {
  HADAL_CHECK(batch >= 1, "batch: {} is not at least 1", batch);
  options.sequences = batch;
  options.pause_prompts = false;  // nobody waits for single tokens
  return options;
}

}  // namespace

BatchEngine::BatchEngine(Context& ctx, const model::Transformer& transformer, EngineOptions options, Index batch)
    : config_(transformer.config), engine_(ctx, transformer, with_sequences(options, batch)) {}

void BatchEngine::generate(std::span<const Request> requests, const OnBatchToken& on_token,
                           const OnCompletion& on_completion) {
  for (const Request& request : requests) validate(request, engine_.options(), config_);
  std::map<RequestId, std::size_t> open;  // which request it is
  std::size_t next = 0;
  try {
    for (;;) {
      while (next < requests.size() && engine_.unfinished() < engine_.options().sequences) {
        const RequestId id = engine_.submit(requests[next]);
        open.emplace(id, next++);
      }
      if (open.empty()) return;
      std::set<RequestId> over;
      for (const TokenEvent& event : engine_.step())
        if (on_token && !over.contains(event.id) && !obey(engine_, event, on_token(open.at(event.id), event.sample)))
          over.insert(event.id);
      std::erase_if(open, [&](const auto& entry) {
        if (!engine_.ended(entry.first)) return false;
        const Completion completion = engine_.take(entry.first);
        if (completion.finish_reason == FinishReason::kError) throw Error(completion.error);
        on_completion(entry.second, completion);
        return true;
      });
    }
  } catch (...) {
    drop(open);
    throw;
  }
}

void BatchEngine::drop(const std::map<RequestId, std::size_t>& open) {
  for (const auto& [id, request] : open) {
    engine_.cancel(id);
    if (engine_.ended(id)) engine_.take(id);
  }
}

}  // namespace hadal::infer
