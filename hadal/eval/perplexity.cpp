#include "hadal/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace hadal::eval {
namespace {

constexpr Index kHeadRows = 32;  // rows of logits in memory at a time

double negative_log_probability(const float* logits, Index n, model::TokenId id) {
  const double largest = *std::max_element(logits, logits + n);
  double sum = 0;
  for (Index i = 0; i < n; ++i) sum += std::exp(double{logits[i]} - largest);
  return largest + std::log(sum) - logits[id];
}

// The nats of targets[i] given hidden row i, for rows from `first` on.
double score(Context& ctx, const model::Transformer& t, const TensorRef& hidden,
             std::span<const model::TokenId> targets, Index first) {
  double nats = 0;
  const auto rows = static_cast<Index>(targets.size());
  for (Index begin = first; begin < rows; begin += kHeadRows) {
    const Workspace::Scope scope(ctx.workspace);
    const Index end = std::min(begin + kHeadRows, rows);
    const auto logits = t.logits(ctx, hidden.rows(begin, end)).view<float, 2>();
    for (Index r = begin; r < end; ++r)
      nats += negative_log_probability(logits.row(r - begin), logits.shape[1], targets[static_cast<std::size_t>(r)]);
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
  PerplexityResult result;
  const auto total = static_cast<Index>(ids.size());
  for (Index begin = 0, scored = 0; scored < total; begin += stride) {
    const Index end = std::min(begin + window, total);
    const Workspace::Scope scope(ctx.workspace);
    const auto targets = ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    std::vector<model::TokenId> input = {options.bos};
    input.insert(input.end(), targets.begin(), targets.end() - 1);
    model::SequenceState state = transformer.new_sequence(static_cast<Index>(input.size()));
    const TensorRef hidden = transformer.hidden(ctx, input, model::Form::kExpanded, state);
    result.nats += score(ctx, transformer, hidden, targets, scored - begin);
    result.tokens += end - scored;
    scored = end;
    if (progress) progress(scored);
  }
  return result;
}

}  // namespace hadal::eval
