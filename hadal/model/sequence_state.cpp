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

}  // namespace hadal::model
