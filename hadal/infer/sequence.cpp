#include "hadal/infer/sequence.h"

#include <algorithm>

#include "hadal/core/random.h"

namespace hadal::infer {

Sequence::Sequence(const model::CachePools& pools, const EngineOptions& resolved, Request request)
    : context_(resolved.context),
      simulated_acceptance_(resolved.simulated_acceptance),
      num_tokens_(resolved.num_tokens),
      state_(pools, resolved.context),
      ids_(std::move(request.prompt)),
      prompt_tokens_(static_cast<Index>(ids_.size())),
      request_(std::move(request)),
      sampler_(request_.sampling, num_tokens_),
      start_(Clock::now()) {
  completion_.prompt_tokens = prompt_tokens_;
}

void Sequence::begin() {
  if (begun_) return;
  begun_ = true;
  start_ = Clock::now();
}

// The first position whose hidden state is wanted, and was not there before.
Index Sequence::wanted_from() const {
  Index from = known() - 1;
  if (request_.prompt_logprobs >= 0) from = std::min(from, static_cast<Index>(completion_.prompt_logprobs.size()));
  if (request_.pooling == Pooling::kMean) from = std::min(from, pooled_tokens_);
  return from;
}

// How many tokens at the beginning must have been computed in the expanded form, the others in the absorbed one.
std::optional<Index> Sequence::expanded() const {
  return request_.reuse == CacheReuse::kAny ? std::nullopt : std::optional(prompt_tokens_);
}

PrefixTree::Match Sequence::find_in(PrefixTree& tree) const {
  PrefixTree::Match match = tree.find(request_.cache_salt, ids_, expanded());
  return match;
}

void Sequence::adopt(PrefixTree& tree) {
  const PrefixTree::Match match = find_in(tree);
  adopt(match.pages, match.length);
}

void Sequence::adopt(PrefixTree& tree, Index first, std::span<const model::SharedPage> pages) {
  PrefixTree::Match match = find_in(tree);
  if (match.length < first * model::kPageTokens) return;
  match.pages.resize(static_cast<std::size_t>(first));
  for (const model::SharedPage& page : pages) match.pages.push_back(&page);
  adopt(match.pages, static_cast<Index>(match.pages.size()) * model::kPageTokens);
}

// Pages with the first `length` tokens.
void Sequence::adopt(std::span<const model::SharedPage* const> pages, Index length) {
  // MTP's entries reach less far than the main model's: what they lack has to be run again.
  const Index common = length - static_cast<Index>(state_.mtp.size());
  const Index adopted = std::min(common, wanted_from()), before = this->length();
  if (adopted <= before) return;
  state_.adopt(pages, adopted, length);
  if (!left_) completion_.cached_tokens += std::min(adopted, prompt_tokens_) - before;
  published_ = adopted;
}

std::vector<PageName> Sequence::missing_pages(PrefixTree& tree, Index& first) const {
  first = find_in(tree).length / model::kPageTokens;
  std::vector<PageName> names;
  PageName name = root_name(request_.cache_salt);
  const Index whole = prompt_tokens_ / model::kPageTokens;
  for (Index i = 0; i < whole && i * model::kPageTokens < wanted_from(); ++i) {
    name = page_name(name, prompt().subspan(static_cast<std::size_t>(i * model::kPageTokens),
                                            static_cast<std::size_t>(model::kPageTokens)));
    if (i >= first) names.push_back(name);
  }
  return names;
}

void Sequence::publish(PrefixTree& tree) {
  const Index done = in_prompt() ? length() / model::kPageTokens * model::kPageTokens : prompt_tokens_;
  if (done <= published_) return;
  published_ = done;
  tree.insert(request_.cache_salt, std::span(ids_).first(static_cast<std::size_t>(done)), state_, false);
}

void Sequence::leave_to(PrefixTree& tree) {
  if (length() > 0)
    tree.insert(request_.cache_salt, std::span(ids_).first(static_cast<std::size_t>(length())), state_,
                request_.reuse != CacheReuse::kAny);
  state_.truncate(0);
  run_ids_.clear();
  mtp_ = {};
  published_ = 0;
  left_ = true;
}

Sequence::Following Sequence::following(const Sequence& other) const {
  if (!other.in_prompt() || other.request_.cache_salt != request_.cache_salt) return {};
  const auto [mine, its] = std::mismatch(ids_.begin(), ids_.end(), other.ids_.begin(), other.ids_.end());
  const auto common = static_cast<Index>(mine - ids_.begin());
  // It gives whole pages, and at its prompt's end the rest.
  const bool all = common >= other.prompt_tokens_;
  const Index until = all ? other.prompt_tokens_ : common / model::kPageTokens * model::kPageTokens;
  const Index length = std::min(until, wanted_from());
  return other.length() < until ? Following{length, until} : Following{};
}

void Sequence::end(FinishReason reason, std::optional<Index> keep) {
  ended_ = true;
  if (keep && *keep < static_cast<Index>(answer().size())) {
    ids_.resize(static_cast<std::size_t>(prompt_tokens_ + *keep));
    state_.truncate(std::min(length(), known()));
  }
  state_.forget_keys();
  completion_.finish_reason = reason;
  completion_.tokens.assign(answer().begin(), answer().end());
  if (!completion_.tokens.empty())
    completion_.decode_seconds = std::chrono::duration<double>(Clock::now() - prompt_end_).count();
}

void Sequence::fail(const std::string& error) {
  completion_.error = error;
  end(FinishReason::kError);
}

// The last token needs no draft to come.
void Sequence::draft(std::vector<TokenId> tokens, Speculate source) {
  run_ids_.clear();
  const auto room = static_cast<std::size_t>(std::max<Index>(limit() - static_cast<Index>(answer().size()) - 1, 0));
  tokens.resize(std::min(tokens.size(), room));
  if (tokens.empty()) return;
  draft_source_ = source;
  run_ids_.push_back(ids_.back());
  run_ids_.insert(run_ids_.end(), tokens.begin(), tokens.end());
}

void Sequence::look_up(Index most) {
  if (most == 0) return;  // what is new is learnt when it may be of use
  lookup_.learn(ids_);
  draft(lookup_.draft(ids_, most), Speculate::kLookup);
}

// The draw that the draft's position will have, under the same constraint: the more alike the two distributions, the
// more often the same token.
class Sequence::DraftChooser {
 public:
  explicit DraftChooser(Sequence& sequence) : s_(sequence) {}

  TokenId operator()(std::span<float> logits, std::span<const TokenId> so_far) {
    try {
      if (!look_ahead(so_far)) return -1;
      std::vector<TokenId> answer(s_.answer().begin(), s_.answer().end());
      answer.insert(answer.end(), so_far.begin(), so_far.end());
      return s_.sampler_
          .sample(logits, s_.prompt(), answer, s_.request_.choice, s_.ids_.size() + so_far.size(), allowed_)
          .id;
    } catch (const Error&) {
      return -1;  // numbers that nothing can be made of
    }
  }

 private:
  // What may come behind these drafts. False: the answer would have ended.
  bool look_ahead(std::span<const TokenId> so_far) {
    if (!s_.constrained()) return true;
    if (so_far.empty()) {
      s_.make_mask();  // which sample() will want as well
      allowed_ = s_.allowed();
      return s_.mask_error_.empty() && !s_.request_.constraint->complete();
    }
    if (!ahead_) ahead_ = s_.request_.constraint->clone();
    ahead_->accept(so_far.back());
    if (ahead_->complete()) return false;
    mask_.assign(static_cast<std::size_t>((s_.num_tokens_ + 31) / 32), ~0u);
    allowed_ = ahead_->mask(mask_) ? std::span<const std::uint32_t>(mask_) : std::span<const std::uint32_t>();
    return true;
  }

  Sequence& s_;
  std::shared_ptr<grammar::TokenConstraint> ahead_;  // the constraint as the drafts so far would leave it
  std::vector<std::uint32_t> mask_;
  std::span<const std::uint32_t> allowed_;
};

MtpDrafter::Wish Sequence::wish(model::Form form, Index drafts) {
  return {state_, mtp_, ids_, form, drafts, DraftChooser(*this)};
}

TokenId Sequence::simulated(TokenId draft) const {
  constexpr std::uint64_t kStream = 0x5eed;
  const bool right = Philox(request_.sampling.seed, kStream).uniform(ids_.size()) < *simulated_acceptance_;
  return right ? draft : draft == 0 ? 1 : draft - 1;
}

model::Segment Sequence::next(Index rows) {
  if (in_prompt()) {
    const Index behind = prompt_tokens_ - length(), count = std::min(rows, behind);
    return {std::span(ids_).subspan(static_cast<std::size_t>(length()), static_cast<std::size_t>(count)), state_,
            model::Form::kExpanded, behind - count};
  }
  if (drafts() > 0) return {std::span(run_ids_), state_, model::Form::kAbsorbed};
  const Index count = std::min(rows, known() - length());
  return {std::span(ids_).subspan(static_cast<std::size_t>(length()), static_cast<std::size_t>(count)), state_,
          model::Form::kAbsorbed};
}

void Sequence::prompt_ended() {
  if (completion_.prompt_seconds > 0) return;
  prompt_end_ = Clock::now();
  completion_.prompt_seconds = std::chrono::duration<double>(prompt_end_ - start_).count();
}

void Sequence::rewind(Index length) {
  state_.truncate(length);
  if (static_cast<Index>(completion_.prompt_logprobs.size()) > length)
    completion_.prompt_logprobs.resize(static_cast<std::size_t>(length));
}

void Sequence::make_mask() noexcept {
  try {
    build_mask();
  } catch (const std::exception& e) {
    mask_error_ = e.what();
    mask_made_ = true;
  }
}

// The constraint's, and no stop tokens before there are enough others, unless the constraint allows nothing else.
void Sequence::build_mask() {
  if (mask_made_) return;
  masked_ = false;
  mask_error_.clear();
  const bool too_early = static_cast<Index>(answer().size()) < request_.min_tokens;
  if (constrained() || too_early) {
    mask_.assign(static_cast<std::size_t>((num_tokens_ + 31) / 32), ~0u);
    if (constrained() && !request_.constraint->complete()) masked_ = request_.constraint->mask(mask_);
    // No token has the bits behind the last one's.
    if (num_tokens_ % 32 != 0) mask_.back() &= (1u << (num_tokens_ % 32)) - 1;
    if (too_early) {
      std::vector<std::uint32_t> without = mask_;
      for (const TokenId id : request_.stop_token_ids)
        if (id >= 0 && id < num_tokens_) without[static_cast<std::size_t>(id / 32)] &= ~(1u << (id % 32));
      if (std::any_of(without.begin(), without.end(), [](std::uint32_t word) { return word != 0; })) {
        mask_ = std::move(without);
        masked_ = true;
      }
    }
  }
  mask_made_ = true;
}

std::vector<Sample> Sequence::sample(const View<float, 2>& rows) {
  std::vector<Sample> samples;
  const Index before = length() - drafts();  // the last token that was known is the last one of these
  try {
    for (Index row = 0; row < rows.shape[0]; ++row) {
      if (constrained() && request_.constraint->complete()) {
        end(FinishReason::kStop);
        break;
      }
      build_mask();
      if (!mask_error_.empty()) throw Error(mask_error_);
      samples.push_back(sampler_.sample({rows.row(row), static_cast<std::size_t>(rows.shape[1])}, prompt(), answer(),
                                        request_.choice, ids_.size(), allowed()));
      if (simulated_acceptance_ && row < drafts())
        samples.back().id = simulated(run_ids_[static_cast<std::size_t>(row) + 1]);
      accept(samples.back().id);
      // The row behind it is of use if what was drafted is what has come.
      if (ended_ || row == drafts() || run_ids_[static_cast<std::size_t>(row) + 1] != samples.back().id) break;
    }
  } catch (const Error& e) {
    fail(e.what());
  }
  if (drafts() > 0) {
    const auto right = std::max<Index>(static_cast<Index>(samples.size()) - 1, 0);
    completion_.drafted_tokens += drafts();
    completion_.accepted_tokens += right;
    right_until_ = before + right;
    run_ids_.clear();
  }
  return samples;
}

void Sequence::drop_wrong_drafts() {
  if (right_until_) state_.truncate(*right_until_);
  right_until_.reset();
}

void Sequence::accept(TokenId token) {
  ids_.push_back(token);
  mask_made_ = false;
  if (constrained()) request_.constraint->accept(token);
  const std::vector<TokenId>& stop = request_.stop_token_ids;
  if (std::find(stop.begin(), stop.end(), token) != stop.end() || (constrained() && request_.constraint->complete()))
    end(FinishReason::kStop);
  else if (static_cast<Index>(answer().size()) >= limit())
    end(FinishReason::kLength);
}

Index Sequence::limit() const {
  // The last token sampled needs no place in the cache, so an answer may have one token more than fit.
  const Index room = context_ - prompt_tokens_ + 1;
  return request_.max_tokens > 0 ? std::min(request_.max_tokens, room) : room;
}

std::pair<Index, Index> Sequence::logprob_rows(Index before, Index rows) const {
  if (request_.prompt_logprobs < 0) return {};
  const Index there = static_cast<Index>(completion_.prompt_logprobs.size());
  const Index end = std::clamp<Index>(prompt_tokens_ - 1 - before, 0, rows);
  return {std::clamp<Index>(there - before, 0, end), end};
}

Sample Sequence::prompt_logprob(std::span<const float> logits, Index position) const {
  return sampler_.given(logits, ids_[static_cast<std::size_t>(position) + 1], request_.prompt_logprobs,
                        static_cast<std::uint64_t>(position) + 1);
}

void Sequence::add_prompt_logprobs(std::vector<Sample> logprobs) {
  completion_.prompt_logprobs.insert(completion_.prompt_logprobs.end(), std::make_move_iterator(logprobs.begin()),
                                     std::make_move_iterator(logprobs.end()));
}

// Sums in the order of the tokens, so that they do not depend on the passes.
void Sequence::pool(Index before, const View<const float, 2>& hidden) {
  const Index width = hidden.shape[1];
  pooled_.resize(static_cast<std::size_t>(width));
  for (Index row = std::max<Index>(pooled_tokens_ - before, 0); row < hidden.shape[0] && before + row < prompt_tokens_;
       ++row, ++pooled_tokens_) {
    const bool last = before + row == prompt_tokens_ - 1;
    for (Index i = 0; i < width; ++i) {
      double& sum = pooled_[static_cast<std::size_t>(i)];
      sum = request_.pooling == Pooling::kMean ? sum + double{hidden(row, i)} : double{hidden(row, i)};
    }
    if (!last) continue;
    const double count = request_.pooling == Pooling::kMean ? static_cast<double>(prompt_tokens_) : 1;
    completion_.embedding.clear();
    for (const double sum : pooled_) completion_.embedding.push_back(static_cast<float>(sum / count));
  }
}

}  // namespace hadal::infer
