// The size of this machine's caches, by which kernels choose how much they work on at a time. Never what they compute:
// results have the same bits whatever it is.
#pragma once

#include "hadal/core/view.h"

namespace hadal::kernels {

struct CacheSizes {
  Index l2 = 512 << 10;  // bytes, of a core
};

// As the system says when the program starts; the default above where it says nothing, or nonsense.
const CacheSizes& cache_sizes();

}  // namespace hadal::kernels
