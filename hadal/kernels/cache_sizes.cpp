#include "hadal/kernels/cache_sizes.h"

#include <unistd.h>

#include <algorithm>

namespace hadal::kernels {
namespace {

CacheSizes read() {
  CacheSizes sizes;
  if (const long bytes = ::sysconf(_SC_LEVEL2_CACHE_SIZE); bytes > 0)
    sizes.l2 = std::clamp<Index>(bytes, sizes.l2 / 2, sizes.l2 * 16);
  return sizes;
}

const CacheSizes kSizes = read();

}  // namespace

const CacheSizes& cache_sizes() {
  return kSizes;
}

}  // namespace hadal::kernels
