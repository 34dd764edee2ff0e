// Products with the memory they need, for the tests of the kernels.
#pragma once

#include <algorithm>
#include <limits>

#include "hadal/core/tensor.h"
#include "hadal/kernels/linear.h"

namespace hadal::kernels {

// Scratch full of NaN, so that whatever is read before it is written shows.
struct Scratch {
  explicit Scratch(Index bytes) : memory(DType::kF32, {bytes / 4 + 16}) {
    std::fill_n(memory->data<float>(), memory->num_elements(), std::numeric_limits<float>::quiet_NaN());
  }
  void* data() { return memory->raw(); }
  Tensor memory;
};

inline void multiply(Isa isa, const LinearArgs& a, Index n_begin, Index n_end) {
  const LinearKernels& k = linear_kernels(isa);
  Scratch packed(k.packed_bytes(a)), scratch(k.scratch_bytes(a));
  k.pack(a, 0, k.num_tiles(a), 0, a.k, packed.data());
  k.multiply(a, packed.data(), n_begin, n_end, nullptr, scratch.data());
}

}  // namespace hadal::kernels
