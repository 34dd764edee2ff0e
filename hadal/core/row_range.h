#pragma once

#include "hadal/core/view.h"

namespace hadal {

// Rows [begin, end) of a batch.
struct RowRange {
  Index begin = 0, end = 0;
  Index count() const { return end - begin; }
};

}  // namespace hadal
