#include "hadal/core/error.h"
#include "hadal/kernels/attention.h"
#include "hadal/kernels/linear.h"

namespace hadal::kernels {

namespace {

// kFloat's table with kInt8's functions for the products that are theirs.
template <const LinearKernels& kFloat, const Int8Kernels& kInt8>
const LinearKernels& with_int8() {
  static const LinearKernels table = {
      [](const LinearArgs& a) { return rounds_to_int8(a) ? kInt8.packed_bytes(a) : kFloat.packed_bytes(a); },
      [](const LinearArgs& a) { return rounds_to_int8(a) ? kInt8.scratch_bytes(a) : kFloat.scratch_bytes(a); },
      [](const LinearArgs& a) { return rounds_to_int8(a) ? kInt8.num_tiles(a) : kFloat.num_tiles(a); },
      [](const LinearArgs& a, Index tile_begin, Index tile_end, Index k_begin, Index k_end, void* packed) {
        (rounds_to_int8(a) ? kInt8.pack : kFloat.pack)(a, tile_begin, tile_end, k_begin, k_end, packed);
      },
      [](const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void* next, void* scratch) {
        (rounds_to_int8(a) ? kInt8.multiply : kFloat.multiply)(a, packed, n_begin, n_end, next, scratch);
      },
      kFloat.piece_columns,
      kFloat.many_rows_piece_columns,
      kFloat.transposed,
      kFloat.group_rows};
  return table;
}

}  // namespace

const LinearKernels& linear_kernels(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return with_int8<avx2::kLinear, avx2::kInt8>();
    case Isa::kAvx512:
      return with_int8<avx512::kLinear, avx512::kInt8>();
    case Isa::kAvx512Bf16:
      return with_int8<avx512bf16::kLinear, avx512bf16::kInt8>();
    case Isa::kRef:
      break;
  }
  fail("linear: {} has no fast kernels", isa_name(isa));
}

const AttentionKernels& attention_kernels(Isa isa) {
  HADAL_CHECK(isa != Isa::kRef, "attention: {} has no fast kernels", isa_name(isa));
  return isa == Isa::kAvx2 ? avx2::kAttention : avx512::kAttention;
}

}  // namespace hadal::kernels
