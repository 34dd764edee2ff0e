#include <string>

#include "hadal/core/context.h"
#include "hadal/core/error.h"
#include "hadal/kernels/backend.h"
#include "hadal/kernels/cpu/products.h"
#include "hadal/kernels/linear.h"
#include "hadal/kernels/training.h"

namespace hadal::kernels {

namespace {

// The kernels for products that round x by blocks; null: kFloat's.
template <const RoundedKernels& kInt8, const RoundedKernels* kFixedPoint, bool (*kInFixedPoint)(const LinearArgs&)>
const RoundedKernels* rounded(const LinearArgs& a) {
  if (rounds_to_int8(a)) return &kInt8;
  return kInFixedPoint(a) ? kFixedPoint : nullptr;
}

bool never(const LinearArgs&) {
  return false;
}

// kFloat's table with those functions for the products that are theirs, closed to layouts that are not.
template <const LinearKernels& kFloat, const RoundedKernels& kInt8, const RoundedKernels* kFixedPoint = nullptr,
          bool (*kInFixedPoint)(const LinearArgs&) = never>
const LinearKernels& with_rounded() {
  static constexpr auto of = rounded<kInt8, kFixedPoint, kInFixedPoint>;
  static const LinearKernels table = {
      [](const LinearArgs& a) {
        check_layout(a, kFloat.groups);
        return of(a) ? of(a)->packed_bytes(a) : kFloat.packed_bytes(a);
      },
      [](const LinearArgs& a) { return of(a) ? of(a)->scratch_bytes(a) : kFloat.scratch_bytes(a); },
      [](const LinearArgs& a) { return of(a) ? of(a)->num_tiles(a) : kFloat.num_tiles(a); },
      [](const LinearArgs& a) { return of(a) != nullptr; },
      [](const LinearArgs& a, Index tile_begin, Index tile_end, Index k_begin, Index k_end, void* packed) {
        (of(a) ? of(a)->pack : kFloat.pack)(a, tile_begin, tile_end, k_begin, k_end, packed);
      },
      [](const LinearArgs& a, const void* packed, Index n_begin, Index n_end, const void* next, void* scratch) {
        check_layout(a, kFloat.groups);
        (of(a) ? of(a)->multiply : kFloat.multiply)(a, packed, n_begin, n_end, next, scratch);
      },
      kFloat.piece_columns,
      kFloat.many_rows_piece_columns,
      [](const LinearArgs& a, Index k_begin, Index k_end) {
        check_layout(a);
        kFloat.transposed(a, k_begin, k_end);
      },
      kFloat.group_rows,
      kInt8.round_rows,
      kFloat.groups};
  return table;
}

}  // namespace

void check_layout(const LinearArgs& a, Layout other) {
  if (a.w_layout != Layout::kRows && a.w_layout != other) {
    const std::string read = other == Layout::kRows ? "rows" : fmt::format("rows and {}", layout_name(other));
    fail("linear: the weight [{}, {}] lies in {}, these kernels read {}", a.n, a.k, layout_name(a.w_layout), read);
  }
  if (a.w_scale_layout == Layout::kRows) return;
  HADAL_CHECK(a.w_scale_layout == a.w_layout, "linear: the weight [{}, {}] lies in {}, its scales in {}", a.n, a.k,
              layout_name(a.w_layout), layout_name(a.w_scale_layout));
  HADAL_CHECK(a.scale_rows == 1 && a.scale_columns <= 128 && a.w_first_row % kGroupRows == 0,
              "linear: scales for {} x {} values of the weight [{}, {}] from row {} cannot be grouped", a.scale_rows,
              a.scale_columns, a.n, a.k, a.w_first_row);
}

const LinearKernels& linear_kernels(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return with_rounded<avx2::kLinear, avx2::kInt8, &avx2::kFixedPoint, in_16_bits>();
    case Isa::kAvx512:
      return with_rounded<avx512::kLinear, avx512::kInt8>();
    case Isa::kAvx512Bf16:
      return with_rounded<avx512bf16::kLinear, avx512bf16::kInt8, &avx512bf16::kFixedPoint, in_23_bits>();
    case Isa::kRef:
      break;
  }
  fail("linear: {} has no fast kernels", isa_name(isa));
}

const Backend& backend(const Context& ctx) {
  if (ctx.device.kind == Device::Kind::kGpu) return gpu::kBackend;
  return ctx.numerics.isa == Isa::kRef ? ref::kBackend : cpu::kBackend;
}

template <>
const TrainingKernels<double>& training_kernels(const Context& ctx) {
  HADAL_CHECK(ctx.device.is_host(), "training: on the host alone, not on {}", device_name(ctx.device));
  return ref::kTrainingDouble;
}

template <>
const TrainingKernels<float>& training_kernels(const Context& ctx) {
  HADAL_CHECK(ctx.device.is_host(), "training: on the host alone, not on {}", device_name(ctx.device));
  return ctx.numerics.isa == Isa::kRef ? ref::kTrainingFloat : cpu::kTraining;
}

const AttentionKernels& attention_kernels(Isa isa) {
  HADAL_CHECK(isa != Isa::kRef, "attention: {} has no fast kernels", isa_name(isa));
  return isa == Isa::kAvx2 ? avx2::kAttention : avx512::kAttention;
}

}  // namespace hadal::kernels
