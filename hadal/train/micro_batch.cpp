#include "hadal/train/micro_batch.h"

#include <algorithm>
#include <limits>

namespace hadal::train {
namespace {

using model::BatchRows;
using model::Block;
using model::Keep;
using model::Mtp;

// What depth k of MTP sees of a batch: the hidden states of all but the last k + 1 positions of each sequence, the
// tokens k + 1 ahead of them, and what comes after those (report, equation 21): nothing where these are of another
// document. Depth -1 is the main model.
struct Shifted {
  Index sequences, length;
  std::vector<TokenId> ids, targets;

  Shifted(const Batch& batch, Index ahead) : sequences(batch.sequences), length(batch.length - ahead) {
    for (Index s = 0; s < sequences; ++s)
      for (Index i = 0; i < length; ++i) {
        const Index of = s * batch.length + i, at = of + ahead;
        ids.push_back(batch.ids[static_cast<std::size_t>(at)]);
        targets.push_back(batch.same_document(of, at) ? batch.targets[static_cast<std::size_t>(at)] : kIgnored);
      }
  }
};

// Of the first `length` tokens of each sequence. Where attention begins again at a document, positions do not: rotary
// embeddings know differences only.
BatchRows rows_of(Context& kept, const model::Rotary& rotary, const Batch& batch, Index length) {
  BatchRows rows;
  std::vector<Index> positions;
  for (Index s = 0; s < batch.sequences; ++s) {
    rows.sequences.push_back({s * length, (s + 1) * length});
    for (Index i = 0; i < length; ++i) {
      const Index at = s * batch.length + i;
      if (i == 0 || !batch.same_document(at - 1, at)) rows.attended.push_back({s * length + i, s * length + i});
      ++rows.attended.back().end;
      positions.push_back(i);
    }
  }
  rows.rope = ops::rope_table(kept, rotary.inv_freq, positions, rotary.magnitude);
  return rows;
}

// The first `shorter` rows of each sequence of `length`.
ConstTensorRef heads_of_sequences(Context& kept, const ConstTensorRef& x, Index sequences, Index length,
                                  Index shorter) {
  std::vector<Index> rows;
  for (Index s = 0; s < sequences; ++s)
    for (Index i = 0; i < shorter; ++i) rows.push_back(s * length + i);
  return ops::gather_rows(kept, x, rows);
}
void add_to_heads_of_sequences(Context& ctx, const ConstTensorRef& dx, Index sequences, Index length, Index shorter,
                               const TensorRef& to) {
  for (Index s = 0; s < sequences; ++s)
    ops::add_in_place(ctx, to.rows(s * length, s * length + shorter), dx.rows(s * shorter, (s + 1) * shorter));
}

// One depth: its rows, what it has saved, and the gradient with respect to its hidden states.
struct Depth {
  Shifted tokens;
  BatchRows rows;
  Mtp::Saved saved;
  ConstTensorRef hidden;
  TensorRef d_hidden;
};

void count(const model::Moe& moe, const model::Moe::Saved& saved, std::size_t place, Losses& losses) {
  if (losses.counts.size() <= place) losses.counts.resize(place + 1);
  std::vector<Index>& counts = losses.counts[place];
  counts.resize(static_cast<std::size_t>(moe.gate.n_routed_experts));
  for (std::size_t e = 0; e < counts.size(); ++e)
    counts[e] += saved.experts.groups.begin[e + 1] - saved.experts.groups.begin[e];
}

void note_scores(const model::Mla::Deltas& deltas, std::size_t layer, Losses& losses) {
  if (losses.largest_scores.size() <= layer) losses.largest_scores.resize(layer + 1);
  std::vector<double>& largest = losses.largest_scores[layer];
  const ConstTensorRef& of = deltas.largest;  // [sequences, H]
  largest.resize(static_cast<std::size_t>(of.size(1)), -std::numeric_limits<double>::infinity());
  for (Index i = 0; i < of.num_elements(); ++i) {
    double& score = largest[static_cast<std::size_t>(i % of.size(1))];
    score = std::max(score, of.dtype() == DType::kF64 ? of.data<double>()[i] : double{of.data<float>()[i]});
  }
}

class Run {
 public:
  Run(Context& ctx, Context& kept, const model::Transformer& model, bool recompute, const Batch& batch,
      const Objective& objective, const Denominators& denominators, Losses& losses)
      : ctx_(ctx),
        kept_(kept),
        model_(model),
        keep_{kept, recompute},
        batch_(batch),
        objective_(objective),
        den_(denominators),
        losses_(losses) {}

  const ConstTensorRef& forward_layers() {
    rows_ = rows_of(kept_, model_.rotary, batch_, batch_.length);
    ConstTensorRef x = ops::embedding(kept_, model_.embed_tokens, batch_.ids);  // checks ids, too
    saved_.resize(model_.layers.size());
    for (std::size_t i = 0; i < saved_.size(); ++i) {
      ctx_.observers.boundary(static_cast<Index>(i));
      x = model_.layers[i].forward(ctx_, x, rows_, keep_, saved_[i]);
      note(model_.layers[i], saved_[i]);
    }
    return hidden_ = model_.norm.forward(kept_, x, norm_);
  }

  void forward() {
    forward_layers();
    d_hidden_ = kept_.workspace.tensor(hidden_.dtype(), hidden_.shape());
    losses_.main += ops::cross_entropy(ctx_, hidden_, model_.lm_head.weight, batch_.targets,
                                       1 / static_cast<double>(den_.main), d_hidden_) /
                    static_cast<double>(den_.main);
    losses_.mtp.resize(model_.mtp.size());
    for (std::size_t k = 0; k < model_.mtp.size(); ++k) forward_depth(k);
  }

  void backward() {
    for (std::size_t k = depths_.size(); k-- > 0;) backward_depth(k);
    TensorRef dx = buffer(), other = buffer();
    {
      const Workspace::Scope scope(ctx_.workspace);
      model_.norm.backward_weight(ctx_, d_hidden_, norm_);
      ops::copy_rows(ctx_, model_.norm.backward_input(ctx_, d_hidden_, norm_), dx);
    }
    for (std::size_t i = saved_.size(); i-- > 0; std::swap(dx, other)) {
      const Workspace::Scope scope(ctx_.workspace);
      ctx_.observers.boundary(static_cast<Index>(i));
      Block::Deltas deltas;
      ops::copy_rows(ctx_, model_.layers[i].backward_input(ctx_, dx, rows_, balance(), saved_[i], deltas), other);
      model_.layers[i].backward_weight(ctx_, saved_[i], deltas);
      note_scores(deltas.attn, i, losses_);
    }
    ops::embedding_backward(ctx_, dx, batch_.ids, model_.embed_tokens);
  }

 private:
  TensorRef buffer() { return kept_.workspace.tensor(d_hidden_.dtype(), d_hidden_.shape()); }
  double balance() const { return objective_.balance / static_cast<double>(den_.sequences); }

  void note(const Block& block, const Block::Saved& saved) {
    if (!block.moe) return;
    losses_.balance += saved.moe.balance * balance();
    count(*block.moe, saved.moe, moe_layers_++, losses_);
  }

  void forward_depth(std::size_t k) {
    const auto ahead = static_cast<Index>(k) + 1;
    if (batch_.length <= ahead) return;
    Depth d{.tokens = Shifted(batch_, ahead), .rows = {}, .saved = {}, .hidden = {}, .d_hidden = {}};
    const Mtp& mtp = model_.mtp[k];
    d.rows = rows_of(kept_, model_.rotary, batch_, d.tokens.length);
    const ConstTensorRef& previous = k == 0 ? hidden_ : depths_[k - 1].hidden;
    d.hidden =
        mtp.forward(ctx_,
                    {ops::embedding(kept_, mtp.embed_tokens, d.tokens.ids),
                     heads_of_sequences(kept_, previous, batch_.sequences, d.tokens.length + 1, d.tokens.length)},
                    d.rows, keep_, d.saved);
    note(mtp.block, d.saved.block);
    d.d_hidden = kept_.workspace.tensor(d.hidden.dtype(), d.hidden.shape());
    // lambda / D times the mean over the targets that there are.
    const double mean = den_.mtp[k] > 0 ? 1 / static_cast<double>(den_.mtp[k]) : 0;
    const double weight = objective_.mtp_weight / static_cast<double>(model_.mtp.size());
    losses_.mtp[k] += mean * ops::cross_entropy(ctx_, d.hidden, mtp.shared_head.head.weight, d.tokens.targets,
                                                weight * mean, d.d_hidden);
    depths_.push_back(std::move(d));
  }

  void backward_depth(std::size_t k) {
    const Workspace::Scope scope(ctx_.workspace);
    Depth& d = depths_[k];
    Mtp::Deltas deltas;
    const Mtp::Inputs in = model_.mtp[k].backward_input(ctx_, d.d_hidden, d.rows, balance(), d.saved, deltas);
    model_.mtp[k].backward_weight(ctx_, d.saved, deltas);
    note_scores(deltas.block.attn, model_.layers.size() + k, losses_);
    ops::embedding_backward(ctx_, in.embedded, d.tokens.ids, model_.mtp[k].embed_tokens);
    add_to_heads_of_sequences(ctx_, in.previous, batch_.sequences, d.tokens.length + 1, d.tokens.length,
                              k == 0 ? d_hidden_ : depths_[k - 1].d_hidden);
  }

  Context &ctx_, &kept_;
  const model::Transformer& model_;
  Keep keep_;
  const Batch& batch_;
  const Objective& objective_;
  const Denominators& den_;
  Losses& losses_;

  BatchRows rows_;
  std::vector<Block::Saved> saved_;
  model::RmsNorm::Saved norm_;
  ConstTensorRef hidden_;
  TensorRef d_hidden_;
  std::vector<Depth> depths_;
  std::size_t moe_layers_ = 0;
};

}  // namespace

void MicroBatch::run(Context& ctx, const Batch& batch, const Objective& objective, const Denominators& denominators,
                     Losses& losses) {
  Context kept = ctx.with(saved_);
  const Workspace::Scope scope(saved_);
  Run run(ctx, kept, model_, recompute_, batch, objective, denominators, losses);
  run.forward();
  run.backward();
}

void MicroBatch::forward(Context& ctx, const Batch& batch,
                         const std::function<void(const ConstTensorRef& hidden)>& use) {
  Context kept = ctx.with(saved_);
  const Workspace::Scope scope(saved_);
  const Objective objective;
  const Denominators whole{.main = 1, .mtp = {}, .sequences = batch.sequences};
  Losses unused;
  Run run(ctx, kept, model_, true, batch, objective, whole, unused);
  use(run.forward_layers());
}

}  // namespace hadal::train
