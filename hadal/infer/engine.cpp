#include "hadal/infer/engine.h"

namespace hadal::infer {

Engine::Engine(Context& ctx, const model::Transformer& transformer, EngineOptions options)
    : ctx_(ctx),
      transformer_(transformer),
      options_(resolve(options, transformer.config)),
      sequence_(transformer, options_) {}

// False: an observer asked for the end.
bool Engine::run_pass() {
  Sequence* const one = &sequence_;
  try {
    infer::run_pass(ctx_, transformer_, std::span(&one, 1), options_.chunk);
    return true;
  } catch (const Interrupted&) {
    return false;
  }
}

Completion Engine::generate(const Request& request, const OnToken& on_token, const OnPrompt& on_prompt) {
  validate(request, options_, transformer_.config);
  sequence_.start(request, on_token);
  const auto total = static_cast<Index>(request.prompt.size());
  while (!sequence_.ended()) {
    const bool asked = sequence_.in_prompt() && on_prompt;
    if ((asked && !on_prompt(sequence_.prompt_done(), total)) || !run_pass()) sequence_.cancel();
  }
  return sequence_.completion();
}

}  // namespace hadal::infer
