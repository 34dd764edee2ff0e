// A parameter as it is stored: a vector [D], or a matrix [N, K] whose rows are outputs. FP8 matrices stay FP8 in memory
// and carry one float32 scale per 128x128 block: value = e4m3 * scale[row / 128][column / 128] (rule 29), grid sizes
// rounded up (rule 30). Whether a matrix is quantised is decided by whether it has a scale, not by a list of names
// (rule 36).
#pragma once

#include "hadal/core/tensor.h"

namespace hadal::ops {

inline constexpr Index kBlock =
    128;  // side of a scale block, and the K extent over which FP8 products are summed first

constexpr Index num_blocks(Index n) {
  return (n + kBlock - 1) / kBlock;
}

struct Weight {
  TensorRef values;     // F32, BF16, F16 or F8_E4M3
  TensorRef scale;      // F32 [num_blocks(N), num_blocks(K)] for F8_E4M3, otherwise empty
  Index first_row = 0;  // of `values` within the scale grid: a slice of rows need not start at a block

  explicit operator bool() const { return static_cast<bool>(values); }
  Index num_rows() const { return values.size(0); }
  Index num_columns() const { return values.size(1); }
  // Rows [begin, end) as a weight of their own. No copy.
  Weight rows(Index begin, Index end) const {
    return {.values = values.rows(begin, end), .scale = scale, .first_row = first_row + begin};
  }
};

}  // namespace hadal::ops
