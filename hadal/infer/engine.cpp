#include "hadal/infer/engine.h"

#include <algorithm>
#include <chrono>

namespace hadal::infer {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "stop";
}

Engine::Engine(Context& ctx, const model::Transformer& transformer, EngineOptions options)
    : ctx_(ctx),
      transformer_(transformer),
      options_(options),
      state_(transformer.new_sequence(1, options.cache_dtype)) {
  const model::Config& c = transformer.config;
  if (options_.context == 0) options_.context = c.max_position_embeddings;
  HADAL_CHECK(options_.context > 0 && options_.context <= c.max_position_embeddings,
              "context: {} is not between 1 and the model's max_position_embeddings {}", options_.context,
              c.max_position_embeddings);
  HADAL_CHECK(options_.chunk > 0, "chunk: {} is not at least 1", options_.chunk);
  if (options_.num_tokens == 0) options_.num_tokens = static_cast<TokenId>(c.vocab_size);
  options_.num_tokens = std::min(options_.num_tokens, static_cast<TokenId>(c.vocab_size));
  reset();
}

void Engine::reset() {
  state_ = transformer_.new_sequence(options_.context, options_.cache_dtype);
  cached_ids_.clear();
}

Index Engine::reusable_prefix(const Request& request) const {
  Index n = 0;
  // The last prompt token is always computed: its logits are wanted.
  const Index most = std::min(static_cast<Index>(cached_ids_.size()), static_cast<Index>(request.prompt.size()) - 1);
  while (
      n < most && cached_ids_[static_cast<std::size_t>(n)] == request.prompt[static_cast<std::size_t>(n)] &&
      (request.reuse == CacheReuse::kAny || state_.main.forms()[static_cast<std::size_t>(n)] == model::Form::kExpanded))
    ++n;
  return n;
}

void Engine::last_row_logits(const TensorRef& hidden, std::vector<float>& logits) {
  const TensorRef row = transformer_.logits(ctx_, hidden.rows(hidden.size(0) - 1, hidden.size(0)));
  logits.assign(row.data<float>(), row.data<float>() + row.num_elements());
}

bool Engine::prefill(const Request& request, std::vector<float>& logits, const OnPrompt& on_prompt) {
  const auto total = static_cast<Index>(request.prompt.size());
  while (state_.main.length() < total) {
    const Index done = state_.main.length();
    if (on_prompt && !on_prompt(done, total)) return false;
    const Workspace::Scope scope(ctx_.workspace);
    const auto chunk =
        std::span(request.prompt)
            .subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(std::min(options_.chunk, total - done)));
    const TensorRef hidden = transformer_.hidden(ctx_, chunk, model::Form::kExpanded, state_);
    cached_ids_.insert(cached_ids_.end(), chunk.begin(), chunk.end());
    if (state_.main.length() == total) last_row_logits(hidden, logits);
  }
  if (on_prompt) on_prompt(total, total);
  return true;
}

void Engine::decode_logits(TokenId token, std::vector<float>& logits) {
  const Workspace::Scope scope(ctx_.workspace);
  const TensorRef hidden = transformer_.hidden(ctx_, std::span(&token, 1), model::Form::kAbsorbed, state_);
  cached_ids_.push_back(token);
  last_row_logits(hidden, logits);
}

Completion Engine::generate(const Request& request, const OnToken& on_token, const OnPrompt& on_prompt) {
  const auto prompt_length = static_cast<Index>(request.prompt.size());
  if (prompt_length == 0) throw InvalidRequest("prompt: it is empty, at least one token was expected");
  if (prompt_length > options_.context)
    throw InvalidRequest(
        fmt::format("prompt: its {} tokens are more than the context of {}", prompt_length, options_.context));
  for (TokenId id : request.prompt)
    if (id < 0 || id >= transformer_.config.vocab_size)
      throw InvalidRequest(
          fmt::format("prompt: token id {} is not below vocab_size {}", id, transformer_.config.vocab_size));
  const Sampler sampler(request.sampling, options_.num_tokens);

  Completion out;
  out.prompt_tokens = prompt_length;
  out.cached_tokens = reusable_prefix(request);
  state_.main.truncate(out.cached_tokens);
  cached_ids_.resize(static_cast<std::size_t>(out.cached_tokens));
  std::vector<float> logits;
  const auto start = Clock::now();
  if (!prefill(request, logits, on_prompt)) {
    out.finish_reason = FinishReason::kCancelled;
    return out;
  }
  out.prompt_seconds = seconds_since(start);
  const auto decode_start = Clock::now();
  // The last token sampled needs no place in the cache, so an answer may have one token more than fit.
  const Index room = options_.context - prompt_length + 1;
  const Index limit = request.max_tokens > 0 ? std::min(request.max_tokens, room) : room;
  for (;;) {
    const auto position = static_cast<std::uint64_t>(prompt_length) + out.tokens.size();
    PhaseScope phase(ctx_.phases, Phase::kSampling);
    const Sample sample = sampler.sample(logits, request.prompt, out.tokens, request.choice, position);
    phase.enter(Phase::kOther);
    out.tokens.push_back(sample.id);
    const Continue go_on = on_token ? on_token(sample) : Continue::kYes;
    const bool ended = std::find(request.stop_token_ids.begin(), request.stop_token_ids.end(), sample.id) !=
                       request.stop_token_ids.end();
    if (ended || go_on == Continue::kStop)
      out.finish_reason = FinishReason::kStop;
    else if (go_on == Continue::kCancel)
      out.finish_reason = FinishReason::kCancelled;
    else if (static_cast<Index>(out.tokens.size()) >= limit)
      out.finish_reason = FinishReason::kLength;
    else {
      decode_logits(sample.id, logits);
      continue;
    }
    out.decode_seconds = seconds_since(decode_start);
    return out;
  }
}

}  // namespace hadal::infer
