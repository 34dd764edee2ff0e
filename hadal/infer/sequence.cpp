#include "hadal/infer/sequence.h"

#include <algorithm>

namespace hadal::infer {

Sequence::Sequence(const model::CachePools& pools, const EngineOptions& resolved)
    : context_(resolved.context), num_tokens_(resolved.num_tokens), state_(pools, resolved.context) {}

Index Sequence::reusable_prefix(const Request& request) const {
  const auto most = static_cast<std::size_t>(std::min(length(), static_cast<Index>(request.prompt.size()) - 1));
  std::size_t n = 0;
  while (n < most && ids_[n] == request.prompt[n] &&
         (request.reuse == CacheReuse::kAny || state_.main.forms()[n] == model::Form::kExpanded))
    ++n;
  return static_cast<Index>(n);
}

void Sequence::start(Request request) {
  completion_ = {};
  completion_.cached_tokens = reusable_prefix(request);
  state_.truncate(completion_.cached_tokens);
  request_ = std::move(request);
  ids_ = std::move(request_.prompt);
  prompt_tokens_ = completion_.prompt_tokens = static_cast<Index>(ids_.size());
  sampler_.emplace(request_.sampling, num_tokens_);
  ended_ = false;
  start_ = Clock::now();
}

void Sequence::end(FinishReason reason) {
  ended_ = true;
  state_.forget_keys();
  completion_.finish_reason = reason;
  completion_.tokens.assign(answer().begin(), answer().end());
  if (!completion_.tokens.empty())
    completion_.decode_seconds = std::chrono::duration<double>(Clock::now() - prompt_end_).count();
}

model::Segment Sequence::next(Index rows) {
  const Index behind = static_cast<Index>(ids_.size()) - length(), count = std::min(rows, behind);
  return {std::span(ids_).subspan(static_cast<std::size_t>(length()), static_cast<std::size_t>(count)), state_,
          in_prompt() ? model::Form::kExpanded : model::Form::kAbsorbed, behind - count};
}

void Sequence::prompt_ended() {
  prompt_end_ = Clock::now();
  completion_.prompt_seconds = std::chrono::duration<double>(prompt_end_ - start_).count();
}

void Sequence::forget() {
  state_.truncate(0);
  ids_.clear();
}

Sample Sequence::sample(std::span<float> logits) const {
  return sampler_->sample(logits, prompt(), answer(), request_.choice, ids_.size());
}

void Sequence::accept(const Sample& sample) {
  ids_.push_back(sample.id);
  // The last token sampled needs no place in the cache, so an answer may have one token more than fit.
  const Index room = context_ - prompt_tokens_ + 1;
  const Index limit = request_.max_tokens > 0 ? std::min(request_.max_tokens, room) : room;
  const std::vector<TokenId>& stop = request_.stop_token_ids;
  if (std::find(stop.begin(), stop.end(), sample.id) != stop.end())
    end(FinishReason::kStop);
  else if (static_cast<Index>(answer().size()) >= limit)
    end(FinishReason::kLength);
}

}  // namespace hadal::infer
