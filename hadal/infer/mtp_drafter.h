// Drafts by the model's own MTP layer (report 2.2, equations 21-23; rules 38-41): from the hidden state behind a token
// and the token after it, the one after that. Deeper drafts run the same layer again on its own hidden states (rule
// 41).
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "hadal/model/transformer.h"

namespace hadal::infer {

using config::TokenId;

// What a sequence needs for drafts beside its state: hidden states that the MTP layer has not seen yet, kept so that
// steps without drafts cost nothing and the layer later sees many rows at once.
class MtpTrack {
 public:
  // Of tokens [first, first + rows.size(0)) of the sequence, rows of the main model's hidden states on the host. Where
  // a cached prefix ends, that of its last token is not known: its neighbour's stands in, which may make a draft worse.
  // If more is missing, this sequence cannot draft.
  void remember(const model::SequenceState& state, Index first, const ConstTensorRef& rows);
  Index tokens() const { return tokens_; }
  const float* hidden() const { return hidden_.data(); }
  bool able() const { return able_; }
  void seen() { hidden_.clear(), tokens_ = 0; }
  void give_up() { seen(), able_ = false; }

 private:
  std::vector<float> hidden_;  // [tokens_, hidden_size]
  Index tokens_ = 0;
  bool able_ = true;
};

class MtpDrafter {
 public:
  // The sequence's draft number `depth` (from 0) from logits [vocab_size], which are scratch afterwards; -1 if it wants
  // no more. `so_far` are the drafts before. Of several sequences at the same time.
  using Choose = std::function<TokenId(std::span<float> logits, std::span<const TokenId> so_far)>;
  struct Wish {
    model::SequenceState& state;
    MtpTrack& track;
    std::span<const TokenId> ids;  // the sequence's tokens, the one sampled last included
    model::Form form;              // of what is pending
    Index drafts;                  // at most; 0: the layer shall only see what is pending
    Choose choose;
  };

  // Keeps a reference to the transformer, which has at least one MTP layer.
  explicit MtpDrafter(const model::Transformer& transformer) : transformer_(transformer) {}

  // Wishes in the absorbed form come first. Returns each one's drafts, and leaves in the MTP caches what is certain.
  // Throws what observers throw: then nothing that was pending is lost.
  std::vector<std::vector<TokenId>> draft(Context& ctx, std::span<const Wish> wishes) const;

 private:
  TensorRef catch_up(Context& ctx, std::span<const Wish> wishes) const;

  const model::Transformer& transformer_;
};

}  // namespace hadal::infer
