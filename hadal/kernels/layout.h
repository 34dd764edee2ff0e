// How the values of a matrix lie in memory.
#pragma once

#include <cstdint>
#include <string_view>

#include "hadal/core/dtype.h"
#include "hadal/core/view.h"

namespace hadal::kernels {

enum class Layout : std::uint8_t {
  kRows,      // row by row, as in checkpoints
  kGroups32,  // groups of 32 rows: what AVX2 reads as it lies
  kGroups64,  // groups of 64 rows: AVX-512
  kDevice,    // a device's own, known to its back end alone
};

constexpr std::string_view layout_name(Layout layout) {
  switch (layout) {
    case Layout::kRows:
      return "rows";
    case Layout::kGroups32:
      return "groups of 32 rows";
    case Layout::kGroups64:
      return "groups of 64 rows";
    case Layout::kDevice:
      break;
  }
  return "a device's own layout";
}

// Rows of a group, 0 where there are none.
constexpr Index rows_of_group(Layout layout) {
  return layout == Layout::kGroups32 ? 32 : layout == Layout::kGroups64 ? 64 : 0;
}

// Grouped rows are abreast in memory as the kernels need them, where whole rows have to be transposed first: dword c of
// every row of a group, then dword c + 1. A group has as many rows as a set of outputs, so that a thread reads memory
// as one stream (several at once reached 45 GB/s where one reached 55, on two Zen 4 cores): 64 in AVX-512, 32 in AVX2.
// Whole multiples of kGroupRows are whole groups of every instruction set.
inline constexpr Index kGroupRows = 64;

// Whether a matrix can be stored in groups: whole ones, of whole dwords.
inline bool can_group(DType dtype, Index rows, Index columns) {
  const Index bits = dtype == DType::kI32 ? 4 : static_cast<Index>(dtype_bytes(dtype)) * 8;
  return rows % kGroupRows == 0 && columns * bits % 32 == 0;
}

}  // namespace hadal::kernels
