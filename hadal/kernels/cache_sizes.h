// Sizes of this machine's data caches, in bytes, by which kernels choose how much they work on at a time. Never what
// they compute: results have the same bits whatever the sizes.
#pragma once

#include "hadal/core/view.h"

namespace hadal::kernels {

struct CacheSizes {
  Index l1 = 32 << 10;  // of a core
  Index l2 = 512 << 10;
};

// As the system says when the program starts; the defaults above where it says nothing, or nonsense.
const CacheSizes& cache_sizes();

}  // namespace hadal::kernels
