#include "hadal/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "hadal/core/transfer.h"

namespace hadal::eval {
namespace {

constexpr Index kHeadRows = 32;    // rows of logits in memory at a time, as many of the reference's
constexpr Index kPassRows = 1024;  // windows up to this many rows share a pass

using Logits = std::span<const float>;

// log p(i) = logits[i] - this.
double log_of_sum(Logits logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(double{x} - largest);
  return largest + std::log(sum);
}

auto most_probable(Logits logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
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

std::span<const config::TokenId> part(std::span<const config::TokenId> ids, Index begin, Index end) {
  return ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
}

class Scorer {
 public:
  Scorer(Context& ctx, const model::Transformer& t, std::span<const config::TokenId> ids,
         const PerplexityOptions& options)
      : ctx_(ctx),
        transformer_(t),
        ids_(ids),
        options_(options),
        mode_{ctx.numerics.isa, ctx.numerics.activations, options.cache_dtype} {}

  // All windows in one pass, two with a reference.
  void score(std::span<const Window> windows, PerplexityResult& result) {
    const Workspace::Scope scope(ctx_.workspace);
    const TensorRef rows = hidden(mode_, windows);
    const TensorRef reference = options_.reference ? hidden(*options_.reference, windows) : TensorRef{};
    Index row = 0;
    for (const Window& w : windows) {
      const Index first = row + w.scored - w.begin;
      row += w.end - w.begin;
      for (Index begin = first; begin < row; begin += kHeadRows) {
        const Index end = std::min(begin + kHeadRows, row), target = w.scored + begin - first;
        score(rows.rows(begin, end), reference ? reference.rows(begin, end) : reference,
              part(ids_, target, target + end - begin), result);
      }
    }
    result.tokens = windows.back().end;
  }

 private:
  Context context_of(const Mode& mode) const { return ctx_.with({.isa = mode.isa, .activations = mode.activations}); }

  // Each window begins anew, with BOS.
  TensorRef hidden(const Mode& mode, std::span<const Window> windows) {
    std::vector<std::vector<config::TokenId>> inputs;
    std::vector<model::SequenceState> states;
    for (const Window& w : windows) {
      const auto before = part(ids_, w.begin, w.end - 1);
      inputs.push_back({options_.bos});
      inputs.back().insert(inputs.back().end(), before.begin(), before.end());
      states.push_back(transformer_.new_sequence(w.end - w.begin, mode.cache_dtype, ctx_.memory));
    }
    std::vector<model::Segment> segments;
    for (std::size_t i = 0; i < windows.size(); ++i) segments.push_back({inputs[i], states[i], model::Form::kExpanded});
    Context ctx = context_of(mode);
    return transformer_.hidden(ctx, segments);
  }

  TensorRef logits(const Mode& mode, const ConstTensorRef& rows) {
    Context ctx = context_of(mode);
    return transformer_.logits(ctx, rows);
  }

  // Row i of both predicts targets[i].
  void score(const ConstTensorRef& rows, const ConstTensorRef& reference_rows, std::span<const config::TokenId> targets,
             PerplexityResult& result) {
    const Workspace::Scope scope(ctx_.workspace);
    const OnHost all(ctx_, logits(mode_, rows));
    const OnHost references(ctx_, reference_rows ? logits(*options_.reference, reference_rows) : TensorRef{});
    const auto row_of = [](const ConstTensorRef& t, Index r) {
      return Logits(t.rows(r, r + 1).data<float>(), static_cast<std::size_t>(t.size(1)));
    };
    for (Index r = 0; r < all->size(0); ++r) {
      const Logits row = row_of(*all, r);
      const auto target = static_cast<std::size_t>(targets[static_cast<std::size_t>(r)]);
      result.nats += log_of_sum(row) - row[target];
      if (!*references) continue;
      const Logits reference = row_of(*references, r);
      result.divergence += kl_divergence(reference, row);
      result.agreeing += most_probable(reference) == most_probable(row);
    }
  }

  Context& ctx_;
  const model::Transformer& transformer_;
  std::span<const config::TokenId> ids_;
  const PerplexityOptions& options_;
  Mode mode_;
};

}  // namespace

double PerplexityResult::bits_per_byte(std::size_t bytes) const {
  return bytes ? nats / std::numbers::ln2 / static_cast<double>(bytes) : 0;
}

double kl_divergence(std::span<const float> reference, std::span<const float> other) {
  const double reference_sum = log_of_sum(reference), other_sum = log_of_sum(other);
  double sum = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double log_p = reference[i] - reference_sum;
    sum += std::exp(log_p) * (log_p - (other[i] - other_sum));
  }
  return std::max(sum, 0.0);  // rounding may bring what is nearly nothing below it
}

PerplexityResult perplexity(Context& ctx, const model::Transformer& transformer, std::span<const config::TokenId> ids,
                            const PerplexityOptions& options, const std::function<void(Index)>& progress) {
  HADAL_CHECK(options.context >= 2 && options.context <= transformer.config.max_position_embeddings,
              "context: {} is not between 2 and the model's max_position_embeddings {}", options.context,
              transformer.config.max_position_embeddings);
  const Index window = options.context - 1;
  const Index stride = options.stride == 0 ? window : options.stride;
  HADAL_CHECK(stride >= 1 && stride <= window, "stride: {} is not between 1 and context - 1 = {}", stride, window);
  const std::vector<Window> windows = cut(static_cast<Index>(ids.size()), window, stride);
  const auto together = static_cast<std::size_t>(std::max<Index>(1, kPassRows / options.context));
  Scorer scorer(ctx, transformer, ids, options);
  PerplexityResult result;
  for (std::size_t begin = 0; begin < windows.size(); begin += together) {
    const auto some = std::span(windows).subspan(begin, std::min(together, windows.size() - begin));
    scorer.score(some, result);
    if (progress) progress(result.tokens);
  }
  return result;
}

}  // namespace hadal::eval
