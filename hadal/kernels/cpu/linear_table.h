// The kernels of linear.h with float32 chains, for the table of an instruction set. Included like linear_impl.h.
#pragma once

#include "hadal/kernels/cpu/transposed_impl.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

HADAL_INLINE Vec packed_values(const float* x, Vec unit, bool bf16) {
  const Vec v = load(x);
  return mul(bf16 ? round_to_bf16(v) : v, unit);
}

// Columns [k_begin, k_end) of [k][height] float32, times unit; k_end = k fills the padding behind with zeros.
void pack_f32(const LinearArgs& a, Index tile, Index k_begin, Index k_end, float* to) {
  const int height = packed_height(a, tile);
  const Index first = tile * tile_rows(a), padded = k_end == a.k ? round_up(a.k, 32) : k_end;
  const Vec times = broadcast(unit<F32Step>(a));
  const bool bf16 = a.activations == Activations::kBf16;
  for (Index c = k_begin; c < padded; c += kLanes) {
    IVec r[kLanes];
    const Index columns = a.k - c < kLanes ? (a.k > c ? a.k - c : 0) : kLanes;
    for (int i = 0; i < kLanes; ++i) {
      if (i >= height || first + i >= a.m || columns == 0) {
        r[i] = all_dwords(0);
        continue;
      }
      const float* x = input_row(a, first + i) + c;
      float tail[kLanes] = {};
      if (columns < kLanes) {
        for (Index j = 0; j < columns; ++j) tail[j] = x[j];
        x = tail;
      }
      r[i] = as_int(packed_values(x, times, bf16));
    }
    if (height == 1) {
      store_dwords(to + c, r[0]);
      continue;
    }
    transpose(r);
    for (int j = 0; j < kLanes; ++j) store_column(to, as_float(r[j]), c + j, padded, height);
  }
}

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
