// Quantisation to INT4 that knows what a matrix is multiplied with: GPTQ (Frantar et al. 2022, arXiv 2210.17323).
// Column after column is rounded, and the error is made good by the columns still to come, as far as the inputs of a
// calibration text tie them together; the scale of a group is searched for the least weighted error.
//
// With H = X^T X of the inputs and H^-1 = U^T U (U upper triangular), rounding column c with error e moves the others
// by -e / U[c][c] * U[c]. Columns of different spans are taken as independent, so that memory and work stay bounded for
// any width.
#pragma once

#include <vector>

#include "hadal/core/context.h"

namespace hadal::checkpoint {

class Gptq {
 public:
  static constexpr Index kSpan = 512;  // a multiple of every group size

  // inputs F32 [T, K], T may be 0: then nothing is known and only the scales are searched.
  Gptq(Context& ctx, const ConstTensorRef& inputs, Index columns);

  // As ops::quantize_int4: x F32 [R, K] -> packed I32 [R, ceil(K / 8)], scale BF16 [R, ceil(K / group)]. Rows are
  // independent of each other, so a matrix may come in pieces.
  void quantize(Context& ctx, const ConstTensorRef& x, Index group, const TensorRef& packed,
                const TensorRef& scale) const;

 private:
  struct Span {
    Index begin, width;
    std::vector<float> upper;   // U, [width, width]
    std::vector<float> weight;  // 1 / U[c][c]^2: what an error in column c costs
  };
  void quantize_row(float* x, Index group, std::uint8_t* codes, bf16* scales) const;

  Index columns_;
  std::vector<Span> spans_;
};

}  // namespace hadal::checkpoint
