// One request on its way through an engine: its tokens, its cache, the answer so far and whether it has ended.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "hadal/infer/mtp_drafter.h"
#include "hadal/infer/prefix_tree.h"
#include "hadal/infer/prompt_lookup.h"
#include "hadal/infer/request.h"

namespace hadal::infer {

class Sequence {
 public:
  // A valid request, before it begins.
  Sequence(const model::CachePools& pools, const EngineOptions& resolved, Request request);

  // Takes over what the tree has of its tokens, but for those whose hidden states are wanted, the last one's at least.
  void adopt(PrefixTree& tree);
  // What the tree would give: see PrefixTree::find.
  PrefixTree::Match find_in(PrefixTree& tree) const;
  // The same with pages that came from elsewhere, `pages` of the prompt from `first` on, in the place of what the tree
  // has from there on. Nothing if the tree has given up what was before them.
  void adopt(PrefixTree& tree, Index first, std::span<const model::SharedPage> pages);
  // The names of the prompt's whole pages (page_record.h) that it needs and the tree has not, behind `first` that it
  // has.
  std::vector<PageName> missing_pages(PrefixTree& tree, Index& first) const;
  // Gives the tree what is done of the prompt, whole pages or all.
  void publish(PrefixTree& tree);
  // Gives the tree everything and keeps nothing: it has ended, or waits again.
  void leave_to(PrefixTree& tree);
  // Where it could go on if `other`, whose prompt is still being run, had given what both have in common to the tree,
  // and how much of its prompt `other` must have done for that. {0, 0}: nothing.
  struct Following {
    Index length = 0, until = 0;
  };
  Following following(const Sequence& other) const;

  // Of the answer's tokens the first `keep` are left; without it all.
  void end(FinishReason reason, std::optional<Index> keep = {});
  void fail(const std::string& error);
  bool ended() const { return ended_; }
  // Of one that has ended, once.
  Completion take_completion() { return std::move(completion_); }
  const Request& request() const { return request_; }  // but for its prompt
  bool begun() const { return begun_; }
  void begin();

  // Tokens that the cache holds. Prompt tokens come first, in the expanded form; then those sampled, in the absorbed
  // one (rule 18).
  Index length() const { return state_.main.length(); }
  // Tokens of the prompt and of the answer so far.
  Index known() const { return static_cast<Index>(ids_.size()); }
  Index prompt_tokens() const { return prompt_tokens_; }
  bool in_prompt() const { return length() < prompt_tokens_; }

  // Guesses of the tokens behind the last one: the next pass runs them with it, and sample() takes those that are what
  // would have been sampled anyway.
  void draft(std::vector<TokenId> tokens, Speculate source);
  Index drafts() const { return static_cast<Index>(run_ids_.empty() ? 0 : run_ids_.size() - 1); }
  Speculate draft_source() const { return draft_source_; }  // of the latest ones
  void look_up(Index most);                                 // drafts at most so many, if there is something to be found
  // What the MTP layer needs to draft at most so many behind what is known; `form` is that of what it has not seen.
  MtpDrafter::Wish wish(model::Form form, Index drafts);
  MtpTrack& mtp() { return mtp_; }
  const model::SequenceState& state() const { return state_; }
  // What a forward pass should run next, at most `rows` tokens: of the prompt, or known ones and the drafts behind
  // them.
  model::Segment next(Index rows);
  // The pass has run the end of the prompt.
  void prompt_ended();
  // Takes back what a pass has run that was not finished.
  void rewind(Index length);
  // Memory for the next `rows` tokens. Pages that it would take, pages that it has.
  bool try_reserve(Index rows) { return state_.main.try_reserve(rows); }
  Index pages_wanted(Index rows) const { return state_.main.pages_wanted(rows); }
  Index pages_held() const { return state_.main.pages_held(); }

  // Whether its next pass is one token, and drafts.
  bool decodes() const { return wants_token() && !in_prompt() && known() - length() == 1; }
  // Whether a pass that has run up to the last known token is followed by a sample.
  bool wants_token() const { return !ended_ && request_.max_tokens != kNoAnswer && !pools(); }
  // Rows at the end of what the pass has run whose logits sample() wants.
  Index sampled_rows() const { return 1 + drafts(); }
  // What may come next, for the first of those rows: may be called beside the pass. An error shows in sample().
  bool constrained() const { return request_.constraint != nullptr; }
  void make_mask() noexcept;
  // Tokens from `rows` [sampled_rows(), vocab_size] of logits, scratch afterwards, behind the last token that was
  // known; they are appended. What can't be gone on with ends the answer. Sequences may sample at the same time, and
  // then cut their caches to what was right of the drafts, one after the other: pages go back to where all have theirs.
  std::vector<Sample> sample(const View<float, 2>& rows);
  void drop_wrong_drafts();

  // Of the prompt: which of the `rows` rows that the pass has run behind `before` tokens predict tokens whose
  // log-probabilities are wanted and not yet there (from, to), and what they say.
  std::pair<Index, Index> logprob_rows(Index before, Index rows) const;
  Sample prompt_logprob(std::span<const float> logits, Index position) const;
  void add_prompt_logprobs(std::vector<Sample> logprobs);
  // The hidden states of those rows [rows, hidden_size].
  void pool(Index before, const View<const float, 2>& hidden);
  bool pools() const { return request_.pooling != Pooling::kNone; }

 private:
  using Clock = std::chrono::steady_clock;
  class DraftChooser;

  std::span<const TokenId> prompt() const { return std::span(ids_).first(static_cast<std::size_t>(prompt_tokens_)); }
  std::span<const TokenId> answer() const { return std::span(ids_).subspan(static_cast<std::size_t>(prompt_tokens_)); }
  std::span<const std::uint32_t> allowed() const {
    return masked_ ? std::span<const std::uint32_t>(mask_) : std::span<const std::uint32_t>();
  }
  Index wanted_from() const;
  void adopt(std::span<const model::SharedPage* const> pages, Index length);
  std::optional<Index> expanded() const;
  void build_mask();
  void accept(TokenId token);
  Index limit() const;  // tokens that the answer may have
  TokenId simulated(TokenId draft) const;

  Index context_;
  std::optional<double> simulated_acceptance_;
  TokenId num_tokens_;
  model::SequenceState state_;
  std::vector<TokenId> ids_;  // prompt, then answer; state_ holds the first of them
  Index prompt_tokens_ = 0;
  Request request_;  // but for its prompt
  Sampler sampler_;
  std::optional<Index> right_until_;  // tokens in the cache that are no wrong drafts
  std::vector<TokenId> run_ids_;      // with drafts: the last known token and they
  Speculate draft_source_ = Speculate::kOff;
  PromptLookup lookup_;
  MtpTrack mtp_;
  std::vector<std::uint32_t> mask_;
  bool mask_made_ = false, masked_ = false;  // for the next token; masked_: not everything may come
  std::string mask_error_;
  std::vector<double> pooled_;
  Index pooled_tokens_ = 0, published_ = 0;
  bool begun_ = false, left_ = false;
  Completion completion_;  // but for its tokens, until it ends
  bool ended_ = false;
  Clock::time_point start_, prompt_end_;
};

}  // namespace hadal::infer
