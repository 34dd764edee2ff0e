#include "hadal/train/objective.h"

#include "hadal/core/error.h"

namespace hadal::train {

Batch Batch::part(Index begin, Index end) const {
  const auto cut = [&](const std::vector<TokenId>& all) {
    return std::vector<TokenId>(all.begin() + begin * length, all.begin() + end * length);
  };
  return {end - begin, length, cut(ids), cut(targets), documents.empty() ? documents : cut(documents)};
}

bool Batch::same_document(Index a, Index b) const {
  return documents.empty() || documents[static_cast<std::size_t>(a)] == documents[static_cast<std::size_t>(b)];
}

Denominators denominators(const Batch& batch, Index mtp_depths) {
  Denominators d;
  d.sequences = batch.sequences;
  d.mtp.assign(static_cast<std::size_t>(mtp_depths), 0);
  for (Index s = 0; s < batch.sequences; ++s)
    for (Index i = 0; i < batch.length; ++i) {
      const Index at = s * batch.length + i;
      if (batch.targets[static_cast<std::size_t>(at)] < 0) continue;
      ++d.main;
      for (Index k = 0; k < std::min(mtp_depths, i); ++k)
        d.mtp[static_cast<std::size_t>(k)] += batch.same_document(at - k - 1, at) ? 1 : 0;
    }
  HADAL_CHECK(d.main > 0, "training: a batch of {} sequences has no token to predict", batch.sequences);
  return d;
}

double Losses::total(const Objective& o) const {
  double sum = 0;
  for (const double loss : mtp) sum += loss;
  return main + balance + (mtp.empty() ? 0 : o.mtp_weight / static_cast<double>(mtp.size()) * sum);
}

}  // namespace hadal::train
