#include "hadal/model/pass.h"

#include "hadal/ops/elementwise.h"

namespace hadal::model {

Pass::Pass(std::span<const Run> runs, Index first_layer, TokenDispatcher& dispatcher)
    : experts(dispatcher), first_layer_(first_layer) {
  for (const Run& run : runs) {
    run.cache.reserve(run.count);
    const Index begin = rows_.empty() ? 0 : tokens();
    rows_.push_back({begin, begin + run.count, run.form, run.cache, run.to_come == 0});
    if (run.to_come > 0) run.cache.keep_keys(run.cache.length() + run.count + run.to_come);
    if (run.form == Form::kExpanded) continue;
    HADAL_CHECK(num_absorbed_ + 1 == rows_.size(), "pass: rows in the absorbed form must come before expanded ones");
    ++num_absorbed_;
    absorbed_ = rows_.back().end;
  }
}

void Pass::set_rope(Context& ctx, const Rotary& rotary) {
  std::vector<Index> positions;
  for (const SequenceRows& s : rows_)
    for (Index i = 0; i < s.count(); ++i) positions.push_back(s.cache.length() + i);
  rope = ops::rope_table(ctx, rotary.inv_freq, positions, rotary.magnitude);
}

std::vector<ops::CachedRows> Pass::absorbed_rows() const {
  std::vector<ops::CachedRows> rows;
  for (const SequenceRows& s : std::span(rows_).first(num_absorbed_))
    rows.push_back({.begin = s.begin, .end = s.end, .first_position = s.cache.length()});
  return rows;
}

void Pass::append(Context& ctx, Index layer, const ConstTensorRef& c_kv, const ConstTensorRef& k_pe) const {
  const TensorRef entries = ops::concatenate(ctx, c_kv, k_pe);
  for (const SequenceRows& s : rows_) s.cache.write(ctx, layer - first_layer_, entries.rows(s.begin, s.end));
}

ops::CachedEntries Pass::entries(Index layer, const SequenceRows& s) const {
  return s.cache.entries(layer - first_layer_, s.count());
}

Pass::Cached Pass::cached(Index layer) const {
  Cached cached;
  for (const SequenceRows& s : std::span(rows_).first(num_absorbed_))
    cached.pages.push_back(s.cache.pages(layer - first_layer_, s.count()));
  for (std::size_t i = 0; i < num_absorbed_; ++i)
    cached.rows.push_back(
        {rows_[i].begin, rows_[i].end, rows_[i].cache.length(), cached.pages[i], rows_[i].cache.fp8_entry()});
  return cached;
}

void Pass::finish() const {
  for (const SequenceRows& s : rows_) {
    s.cache.advance(s.count(), s.form);
    if (s.last) s.cache.forget_keys();
  }
}

}  // namespace hadal::model
