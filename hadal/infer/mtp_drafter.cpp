#include "hadal/infer/mtp_drafter.h"

#include <algorithm>
#include <cstring>

#include "hadal/core/transfer.h"
#include "hadal/ops/elementwise.h"

namespace hadal::infer {
namespace {

constexpr Index kLayer = 0;  // the published models have one (num_nextn_predict_layers)

model::KvCache& cache_of(const MtpDrafter::Wish& wish) {
  return wish.state.mtp[kLayer];
}

// What a wish adds to the MTP cache while it is being drafted is taken back, whatever happens.
class Certain {
 public:
  explicit Certain(std::span<const MtpDrafter::Wish> wishes) : wishes_(wishes) {
    for (const MtpDrafter::Wish& w : wishes) lengths_.push_back(cache_of(w).length());
  }
  ~Certain() {
    for (std::size_t i = 0; i < lengths_.size(); ++i) cache_of(wishes_[i]).truncate(lengths_[i]);
  }
  Certain(const Certain&) = delete;
  Certain& operator=(const Certain&) = delete;

 private:
  std::span<const MtpDrafter::Wish> wishes_;
  std::vector<Index> lengths_;
};

// Of those that still draft: whose wish it is and which row of the last hidden states is theirs.
struct Live {
  std::size_t wish;
  Index row;
};

}  // namespace

void MtpTrack::remember(const model::SequenceState& state, Index first, const ConstTensorRef& rows) {
  if (!able_ || rows.size(0) == 0) return;
  const Index missing = state.mtp.empty() ? -1 : first - state.mtp[kLayer].length() - tokens_;
  if (missing != 0 && missing != 1) return give_up();
  const auto add = [&](Index i) {
    const float* row = rows.data<float>() + i * rows.stride(0);
    hidden_.insert(hidden_.end(), row, row + rows.size(1));
    ++tokens_;
  };
  if (missing == 1) add(0);
  for (Index i = 0; i < rows.size(0); ++i) add(i);
}

// The layer sees what is pending; hidden states of each wish's last token.
TensorRef MtpDrafter::catch_up(Context& ctx, std::span<const Wish> wishes) const {
  const Index width = transformer_.config.hidden_size;
  Index tokens = 0;
  for (const Wish& w : wishes) tokens += w.track.tokens();
  const Tensor previous(DType::kF32, {tokens, width});
  std::vector<model::Segment> segments;
  std::vector<Index> last_rows;
  Index row = 0;
  for (const Wish& w : wishes) {
    const Index count = w.track.tokens(), first = cache_of(w).length() + 1;
    std::memcpy(previous->data<float>() + row * width, w.track.hidden(),
                static_cast<std::size_t>(count * width) * sizeof(float));
    segments.push_back(
        {w.ids.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)), w.state, w.form});
    row += count;
    last_rows.push_back(row - 1);
  }
  const TensorRef hidden = transformer_.mtp_hidden(ctx, kLayer, segments, to_device(ctx, previous));
  for (const Wish& w : wishes) w.track.seen();
  return ops::gather_rows(ctx, hidden, last_rows);
}

std::vector<std::vector<TokenId>> MtpDrafter::draft(Context& ctx, std::span<const Wish> wishes) const {
  std::vector<std::vector<TokenId>> drafts(wishes.size());
  if (wishes.empty()) return drafts;
  const Workspace::Scope scope(ctx.workspace);
  TensorRef hidden = catch_up(ctx, wishes);
  const Certain certain(wishes);
  std::vector<Live> live;
  for (std::size_t i = 0; i < wishes.size(); ++i)
    if (wishes[i].drafts > 0) live.push_back({i, static_cast<Index>(i)});
  while (!live.empty()) {
    std::vector<Index> rows;
    for (const Live& l : live) rows.push_back(l.row);
    const TensorRef of_live = ops::gather_rows(ctx, hidden, rows);
    const OnHost logits(ctx, transformer_.mtp_logits(ctx, kLayer, of_live));
    const auto view = logits->view<float, 2>();
    std::vector<TokenId> chosen(live.size());
    ctx.threads.parallel_for(static_cast<Index>(live.size()), 1, [&](Index i, Index) {
      const std::size_t w = live[static_cast<std::size_t>(i)].wish;
      chosen[static_cast<std::size_t>(i)] =
          wishes[w].choose({view.row(i), static_cast<std::size_t>(view.shape[1])}, drafts[w]);
    });
    std::vector<model::Segment> segments;
    std::vector<Live> next;
    rows.clear();
    for (std::size_t i = 0; i < live.size(); ++i) {
      const Wish& w = wishes[live[i].wish];
      if (chosen[i] < 0) continue;
      std::vector<TokenId>& own = drafts[live[i].wish];
      own.push_back(chosen[i]);
      if (static_cast<Index>(own.size()) == w.drafts) continue;
      next.push_back({live[i].wish, static_cast<Index>(next.size())});
      rows.push_back(static_cast<Index>(i));
      segments.push_back({std::span(own).last(1), w.state, model::Form::kAbsorbed});
    }
    live = std::move(next);
    if (!live.empty()) hidden = transformer_.mtp_hidden(ctx, kLayer, segments, ops::gather_rows(ctx, of_live, rows));
  }
  return drafts;
}

}  // namespace hadal::infer
