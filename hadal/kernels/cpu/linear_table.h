// The kernels of linear.h with float32 chains, for the table of an instruction set. Included like linear_impl.h.
#pragma once

#include "hadal/kernels/cpu/transposed_impl.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

void pack_tiles_f32(const LinearArgs& a, Index begin, Index end, Index k_begin, Index k_end, void* packed) {
  for (Index tile = begin; tile < end; ++tile)
    pack_f32(a, tile, k_begin, k_end, static_cast<float*>(packed) + tile * kTileRows * round_up(a.k, 32));
}

void multiply_f32(const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void* next,
                  void* scratch) {
  switch (a.w_dtype) {
    case DType::kF32:
      return multiply_as<F32Step, F32Weights>(a, packed, n_begin, n_end, next, scratch);
    case DType::kBF16:
      return multiply_as<F32Step, Bf16Weights>(a, packed, n_begin, n_end, next, scratch);
    case DType::kF16:
      return multiply_as<F32Step, F16Weights>(a, packed, n_begin, n_end, next, scratch);
    case DType::kI8:
      return multiply_as<F32Step, Int8Weights>(a, packed, n_begin, n_end, next, scratch);
    case DType::kI32:
      return a.w_zero ? multiply_as<F32Step, Int4Weights<true>>(a, packed, n_begin, n_end, next, scratch)
                      : multiply_as<F32Step, Int4Weights<false>>(a, packed, n_begin, n_end, next, scratch);
    default:
      return multiply_as<F32Step, E4m3Weights>(a, packed, n_begin, n_end, next, scratch);
  }
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
