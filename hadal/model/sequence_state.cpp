#include "hadal/model/sequence_state.h"

#include <algorithm>

namespace hadal::model {
namespace {

Index mtp_length(const KvCache& cache, Index length, Index depth) {
  return std::min(cache.length(), std::max<Index>(length - 1 - depth, 0));
}

}  // namespace

CachePools::CachePools(const config::Config& config, Index depths, DType dtype, Index max_pages,
                       std::uint64_t kept_bytes, DeviceMemory& memory)
    : main(std::make_shared<PagePool>(config, config.num_hidden_layers, dtype, max_pages, kept_bytes, memory)),
      mtp(std::make_shared<PagePool>(config, 1, dtype, max_pages * depths, 0, memory)),
      mtp_depths(depths) {}

SequenceState::SequenceState(const CachePools& pools, Index capacity) : main(pools.main, capacity) {
  for (Index depth = 0; depth < pools.mtp_depths; ++depth) mtp.emplace_back(pools.mtp, capacity);
}

void SequenceState::truncate(Index length) {
  main.truncate(length);
  for (Index depth = 0; depth < static_cast<Index>(mtp.size()); ++depth) {
    KvCache& cache = mtp[static_cast<std::size_t>(depth)];
    cache.truncate(mtp_length(cache, length, depth));
  }
}

SequenceState SequenceState::fork(Index length) const {
  SequenceState copy(main.fork(length));
  for (Index depth = 0; depth < static_cast<Index>(mtp.size()); ++depth) {
    const KvCache& cache = mtp[static_cast<std::size_t>(depth)];
    copy.mtp.push_back(cache.fork(mtp_length(cache, length, depth)));
  }
  return copy;
}

SharedPage SequenceState::share(Index page, Index length) const {
  const Index begin = page * kPageTokens, count = std::min(kPageTokens, length - begin);
  const auto forms = main.forms().begin() + begin;
  SharedPage shared{.main = main.share(page, count), .forms = {forms, forms + count}, .mtp = {}};
  for (Index depth = 0; depth < static_cast<Index>(mtp.size()); ++depth) {
    const KvCache& cache = mtp[static_cast<std::size_t>(depth)];
    SharedPage::Depth& of = shared.mtp.emplace_back();
    of.length = mtp_length(cache, begin + count, depth);
    if (page > 0 && of.length > begin - kPageTokens)
      of.before = cache.share(page - 1, std::min(kPageTokens, of.length - (begin - kPageTokens)));
    if (of.length > begin) of.here = cache.share(page, of.length - begin);
  }
  return shared;
}

void SequenceState::adopt(std::span<const SharedPage* const> pages, Index length, Index known) {
  truncate(0);
  if (length == 0) return;
  const auto used = static_cast<std::size_t>(pages_for(length));
  std::vector<PageRef> refs;
  std::vector<Form> forms;
  for (const SharedPage* page : pages.first(used)) {
    refs.push_back(page->main);
    forms.insert(forms.end(), page->forms.begin(), page->forms.end());
  }
  forms.resize(static_cast<std::size_t>(length));
  main.adopt(refs, forms);
  for (std::size_t depth = 0; depth < mtp.size(); ++depth) {
    // The last page knows how far the entries reach; each page's are complete in the page behind it.
    Index most = std::min(length, known - 1 - static_cast<Index>(depth));
    std::vector<PageRef> of_depth;
    for (std::size_t i = 0; i < pages.size() && static_cast<Index>(i) * kPageTokens < most; ++i) {
      const bool last = i + 1 == pages.size();
      const SharedPage::Depth& next = pages[last ? i : i + 1]->mtp[depth];
      const PageRef& ref = last ? next.here : next.before;
      if (last || next.length < static_cast<Index>(i + 1) * kPageTokens) most = std::min(most, next.length);
      if (!ref) most = std::min(most, static_cast<Index>(i) * kPageTokens);
      if (static_cast<Index>(i) * kPageTokens < most) of_depth.push_back(ref);
    }
    if (most <= 0) continue;
    of_depth.resize(static_cast<std::size_t>(pages_for(most)));
    mtp[depth].adopt(of_depth, std::span(main.forms()).first(static_cast<std::size_t>(most)));
  }
}

}  // namespace hadal::model
