#include "hadal/infer/sequence.h"

#include <algorithm>

#include "hadal/ops/elementwise.h"

namespace hadal::infer {
namespace {

template <class T>
bool contains(const std::vector<T>& values, const T& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

Sequence::Sequence(const model::Transformer& transformer, const EngineOptions& resolved)
    : context_(resolved.context),
      num_tokens_(resolved.num_tokens),
      state_(transformer.new_sequence(resolved.context, resolved.cache_dtype)) {}

Index Sequence::reusable_prefix() const {
  // The last prompt token is always computed: its logits are wanted.
  const std::size_t most = std::min(cached_ids_.size(), request_.prompt.size() - 1);
  std::size_t n = 0;
  while (n < most && cached_ids_[n] == request_.prompt[n] &&
         (request_.reuse == CacheReuse::kAny || state_.main.forms()[n] == model::Form::kExpanded))
    ++n;
  return static_cast<Index>(n);
}

void Sequence::start(const Request& request, OnToken on_token) {
  request_ = request;
  on_token_ = std::move(on_token);
  sampler_.emplace(request.sampling, num_tokens_);
  completion_ = {};
  completion_.prompt_tokens = static_cast<Index>(request.prompt.size());
  completion_.cached_tokens = reusable_prefix();
  state_.main.truncate(completion_.cached_tokens);
  cached_ids_.resize(static_cast<std::size_t>(completion_.cached_tokens));
  ended_ = false;
  start_ = Clock::now();
}

void Sequence::end(FinishReason reason) {
  ended_ = true;
  completion_.finish_reason = reason;
  if (!completion_.tokens.empty())
    completion_.decode_seconds = std::chrono::duration<double>(Clock::now() - prompt_end_).count();
}

model::Segment Sequence::next(Index rows) {
  if (!in_prompt()) return {std::span(completion_.tokens).last(1), state_, model::Form::kAbsorbed};
  const auto rest = std::span(request_.prompt).subspan(cached_ids_.size());
  return {rest.first(std::min(rest.size(), static_cast<std::size_t>(rows))), state_, model::Form::kExpanded};
}

void Sequence::ran(std::span<const TokenId> ids) {
  const bool was_in_prompt = in_prompt();
  cached_ids_.insert(cached_ids_.end(), ids.begin(), ids.end());
  if (!was_in_prompt || in_prompt()) return;
  prompt_end_ = Clock::now();
  completion_.prompt_seconds = std::chrono::duration<double>(prompt_end_ - start_).count();
}

Sample Sequence::sample(std::span<float> logits) const {
  const auto position = static_cast<std::uint64_t>(request_.prompt.size() + completion_.tokens.size());
  return sampler_->sample(logits, request_.prompt, completion_.tokens, request_.choice, position);
}

void Sequence::accept(const Sample& sample) {
  completion_.tokens.push_back(sample.id);
  const Continue go_on = on_token_ ? on_token_(sample) : Continue::kYes;
  // The last token sampled needs no place in the cache, so an answer may have one token more than fit.
  const Index room = context_ - completion_.prompt_tokens + 1;
  const Index limit = request_.max_tokens > 0 ? std::min(request_.max_tokens, room) : room;
  if (contains(request_.stop_token_ids, sample.id) || go_on == Continue::kStop)
    end(FinishReason::kStop);
  else if (go_on == Continue::kCancel)
    end(FinishReason::kCancelled);
  else if (static_cast<Index>(completion_.tokens.size()) >= limit)
    end(FinishReason::kLength);
}

void run_pass(Context& ctx, const model::Transformer& transformer, std::span<Sequence* const> sequences, Index rows) {
  const Workspace::Scope scope(ctx.workspace);
  std::vector<model::Segment> segments;
  for (Sequence* s : sequences) {
    if (rows <= 0) break;
    segments.push_back(s->next(rows));
    rows -= static_cast<Index>(segments.back().ids.size());
  }
  const TensorRef hidden = transformer.hidden(ctx, segments);

  std::vector<Sequence*> sampling;
  std::vector<Index> last_rows;
  Index row = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    row += static_cast<Index>(segments[i].ids.size());
    sequences[i]->ran(segments[i].ids);
    if (sequences[i]->in_prompt()) continue;
    sampling.push_back(sequences[i]);
    last_rows.push_back(row - 1);
  }
  if (sampling.empty()) return;
  const TensorRef all_logits = transformer.logits(ctx, ops::gather_rows(ctx, hidden, last_rows));
  const auto logits = all_logits.view<float, 2>();
  std::vector<Sample> samples(sampling.size());
  ctx.threads.parallel_for(static_cast<Index>(samples.size()), 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const auto s = static_cast<std::size_t>(i);
      samples[s] = sampling[s]->sample({logits.row(i), static_cast<std::size_t>(logits.shape[1])});
    }
  });
  ctx.observe("sampled", all_logits);
  for (std::size_t i = 0; i < samples.size(); ++i) sampling[i]->accept(samples[i]);
}

}  // namespace hadal::infer
