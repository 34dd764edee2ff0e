// What the products of linear_impl.h and attention_impl.h share; included like them.
#pragma once

#include "hadal/core/view.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr int kPanelGroups = 2;  // vectors of outputs side by side in a tile

// To nearest even; NaN stays NaN.
HADAL_INLINE Vec round_to_bf16(Vec v) {
  const IVec bits = as_int(v);
  const IVec odd = bit_and(right<16>(bits), all_dwords(1));
  const IVec rounded = bit_and(add_dwords(bits, add_dwords(odd, all_dwords(0x7FFF))), all_dwords(0xFFFF0000u));
  return keep_nan(as_float(rounded), v);
}

constexpr Index round_up(Index n, Index step) {
  return (n + step - 1) / step * step;
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
