// Generation for one sequence at a time, streaming: what a chat needs. The engine knows no text.
#pragma once

#include <functional>

#include "hadal/infer/sequence.h"

namespace hadal::infer {

// Prompt progress: tokens done of all. Returning false cancels.
using OnPrompt = std::function<bool(Index done, Index total)>;

// Not thread-safe: one call at a time. Keeps references to the context and the model.
class Engine {
 public:
  Engine(Context& ctx, const model::Transformer& transformer, EngineOptions options = {});

  // Throws InvalidRequest as validate does. If an observer throws Interrupted, the answer so far is returned as
  // cancelled.
  Completion generate(const Request& request, const OnToken& on_token = {}, const OnPrompt& on_prompt = {});

  Index context() const { return options_.context; }
  // Forgets the sequence before.
  void reset() { sequence_ = Sequence(transformer_, options_); }

 private:
  bool run_pass();

  Context& ctx_;
  const model::Transformer& transformer_;
  EngineOptions options_;
  Sequence sequence_;
};

}  // namespace hadal::infer
