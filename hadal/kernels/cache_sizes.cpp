#include "hadal/kernels/cache_sizes.h"

#include <unistd.h>

#include <algorithm>

namespace hadal::kernels {
namespace {

Index size_of(int name, Index otherwise) {
  const long bytes = ::sysconf(name);
  return bytes > 0 ? std::clamp<Index>(bytes, otherwise / 2, otherwise * 16) : otherwise;
}

const CacheSizes kSizes = {size_of(_SC_LEVEL1_DCACHE_SIZE, CacheSizes{}.l1),
                           size_of(_SC_LEVEL2_CACHE_SIZE, CacheSizes{}.l2)};

}  // namespace

const CacheSizes& cache_sizes() {
  return kSizes;
}

}  // namespace hadal::kernels
