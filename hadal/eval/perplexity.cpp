#include "hadal/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace hadal::eval {
namespace {

constexpr Index kHeadRows = 32;    // rows of logits in memory at a time
constexpr Index kPassRows = 1024;  // windows up to this many rows share a pass

double negative_log_probability(const float* logits, Index n, model::TokenId id) {
  const double largest = *std::max_element(logits, logits + n);
  double sum = 0;
  for (Index i = 0; i < n; ++i) sum += std::exp(double{logits[i]} - largest);
  return largest + std::log(sum) - logits[id];
}

// Targets [begin, end) of the text, of which those from `scored` on are counted.
struct Window {
  Index begin, scored, end;
};

std::vector<Window> cut(Index total, Index window, Index stride) {
  std::vector<Window> windows;
  for (Index begin = 0, scored = 0; scored < total; begin += stride) {
    windows.push_back({begin, scored, std::min(begin + window, total)});
    scored = windows.back().end;
  }
  return windows;
}

std::span<const model::TokenId> part(std::span<const model::TokenId> ids, Index begin, Index end) {
  return ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
}

// The nats of targets[i] given hidden row i.
double score(Context& ctx, const model::Transformer& t, const TensorRef& hidden,
             std::span<const model::TokenId> targets) {
  double nats = 0;
  const auto rows = static_cast<Index>(targets.size());
  for (Index begin = 0; begin < rows; begin += kHeadRows) {
    const Workspace::Scope scope(ctx.workspace);
    const Index end = std::min(begin + kHeadRows, rows);
    const auto logits = t.logits(ctx, hidden.rows(begin, end)).view<float, 2>();
    for (Index r = begin; r < end; ++r)
      nats += negative_log_probability(logits.row(r - begin), logits.shape[1], targets[static_cast<std::size_t>(r)]);
  }
  return nats;
}

// All windows in one pass; each begins anew, with BOS.
double score(Context& ctx, const model::Transformer& t, std::span<const model::TokenId> ids,
             std::span<const Window> windows, const PerplexityOptions& options) {
  const Workspace::Scope scope(ctx.workspace);
  std::vector<std::vector<model::TokenId>> inputs;
  std::vector<model::SequenceState> states;
  for (const Window& w : windows) {
    const auto before = part(ids, w.begin, w.end - 1);
    inputs.push_back({options.bos});
    inputs.back().insert(inputs.back().end(), before.begin(), before.end());
    states.push_back(t.new_sequence(w.end - w.begin, options.cache_dtype));
  }
  std::vector<model::Segment> segments;
  for (std::size_t i = 0; i < windows.size(); ++i) segments.push_back({inputs[i], states[i]});
  const TensorRef hidden = t.hidden(ctx, segments, model::Form::kExpanded);
  double nats = 0;
  Index row = 0;
  for (const Window& w : windows) {
    const Index first = row + w.scored - w.begin;
    row += w.end - w.begin;
    nats += score(ctx, t, hidden.rows(first, row), part(ids, w.scored, w.end));
  }
  return nats;
}

}  // namespace

double PerplexityResult::bits_per_byte(std::size_t bytes) const {
  return bytes ? nats / std::numbers::ln2 / static_cast<double>(bytes) : 0;
}

PerplexityResult perplexity(Context& ctx, const model::Transformer& transformer, std::span<const model::TokenId> ids,
                            const PerplexityOptions& options, const std::function<void(Index)>& progress) {
  HADAL_CHECK(options.context >= 2 && options.context <= transformer.config.max_position_embeddings,
              "context: {} is not between 2 and the model's max_position_embeddings {}", options.context,
              transformer.config.max_position_embeddings);
  const Index window = options.context - 1;
  const Index stride = options.stride == 0 ? window : options.stride;
  HADAL_CHECK(stride >= 1 && stride <= window, "stride: {} is not between 1 and context - 1 = {}", stride, window);
  const std::vector<Window> windows = cut(static_cast<Index>(ids.size()), window, stride);
  const auto together = static_cast<std::size_t>(std::max<Index>(1, kPassRows / options.context));
  PerplexityResult result;
  for (std::size_t begin = 0; begin < windows.size(); begin += together) {
    const auto some = std::span(windows).subspan(begin, std::min(together, windows.size() - begin));
    result.nats += score(ctx, transformer, ids, some, options);
    result.tokens = some.back().end;
    if (progress) progress(result.tokens);
  }
  return result;
}

}  // namespace hadal::eval
