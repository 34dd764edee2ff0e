// linear.h with BF16 activations on AVX512-BF16. Everything else is avx512's: the same chains, the same bits.
#define HADAL_ISA avx512bf16
#include "hadal/kernels/cpu/avx512/vec.h"
// The vector header comes first.
#include "hadal/kernels/cpu/avx512bf16/bf16_step.h"

namespace hadal::kernels::avx512bf16 {
namespace {

bool in_bf16(const LinearArgs& a) {
  return a.activations == Activations::kBf16 && takes_bf16(a.w_dtype);
}

void pack(const LinearArgs& a, Index begin, Index end, Index k_begin, Index k_end, void* packed) {
  if (in_bf16(a)) return pack_tiles_bf16(a, begin, end, k_begin, k_end, packed);
  avx512::kLinear.pack(a, begin, end, k_begin, k_end, packed);
}

void multiply(const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void* next, void* scratch) {
  if (in_bf16(a)) return multiply_bf16(a, packed, n_begin, n_end, next, scratch);
  avx512::kLinear.multiply(a, packed, n_begin, n_end, next, scratch);
}

void transposed_f32(const LinearArgs& a, Index k_begin, Index k_end) {
  avx512::kLinear.transposed(a, k_begin, k_end);
}

}  // namespace

const LinearKernels kLinear = {packed_bytes_f32, scratch_bytes, tiles_of<>,     nullptr,    pack,    multiply,
                               kSetRows,         kPanelSetRows, transposed_f32, group_rows, nullptr, Layout::kGroups64};

}  // namespace hadal::kernels::avx512bf16
