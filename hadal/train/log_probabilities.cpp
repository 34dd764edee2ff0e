#include "hadal/train/log_probabilities.h"

#include <algorithm>

#include "hadal/infer/sampler.h"

namespace hadal::train {

std::vector<double> log_probabilities(Context& ctx, MicroBatch& forward, const model::Transformer& model,
                                      const Batch& batch) {
  constexpr Index kPiece = 64;  // rows of logits at a time
  const infer::Sampler sampler({}, static_cast<TokenId>(model.config.vocab_size));
  std::vector<double> all(static_cast<std::size_t>(batch.tokens()));
  forward.forward(ctx, batch, [&](const ConstTensorRef& hidden) {
    for (Index begin = 0; begin < hidden.size(0); begin += kPiece) {
      const Index end = std::min(begin + kPiece, hidden.size(0));
      const Workspace::Scope scope(ctx.workspace);
      const TensorRef logits = model.logits(ctx, hidden.rows(begin, end));
      const auto rows = logits.view<float, 2>();
      ctx.threads.parallel_for(end - begin, 1, [&](Index i, Index) {
        const auto at = static_cast<std::size_t>(begin + i);
        if (batch.targets[at] < 0) return;
        all[at] =
            sampler.given({rows.row(i), static_cast<std::size_t>(rows.shape[1])}, batch.targets[at], 0, at).logprob;
      });
    }
  });
  return all;
}

}  // namespace hadal::train
