// Values that no training gives: NaN and infinity in every format that has them.
#pragma once

#include <cstdint>
#include <string>

#include "hadal/core/context.h"
#include "hadal/core/tensor.h"

namespace hadal::checkpoint {

struct ValueCounts {
  std::int64_t not_finite = 0;
  Index first_bad = -1;  // the element, in row-major order
  bool nonzero = false;  // something else than zeros is there
};

// "row 3, column 7" of a matrix, "place 3" of anything else; both count from 0.
std::string place_of(Index element, const Shape& shape);

// Of a contiguous tensor. Integers are always finite.
ValueCounts count_values(Context& ctx, const ConstTensorRef& tensor);

}  // namespace hadal::checkpoint
