// Scales and zero points of grouped rows, in groups too, so that a set of outputs reads both in order.
#pragma once

#include <cstdint>
#include <cstring>

#include "hadal/core/error.h"
#include "hadal/kernels/layout.h"

namespace hadal::kernels {

// A grid with a row for each row of a matrix; its values have `value_bytes`: 1, 2 or 4.
struct Grid {
  const void* values;
  Index value_bytes;
  Index stride;   // from one row to the next, in values
  Index columns;  // blocks of a row
};

template <class T>
void group_grid_as(const Grid& grid, Index begin, Index end, Index group, T* to) {
  const T* from = static_cast<const T*>(grid.values);
  for (Index row = begin; row < end; row += group)
    for (Index c = 0; c < grid.columns; ++c)
      for (Index i = 0; i < group; ++i) to[row * grid.columns + c * group + i] = from[(row + i) * grid.stride + c];
}

// Rows [begin, end) of it, whole groups, without gaps as [group][column][row of the group] to their place in `to`,
// where row 0's group begins.
inline void group_grid(const Grid& grid, Index begin, Index end, Layout layout, void* to) {
  const Index group = rows_of_group(layout);
  HADAL_CHECK(group > 0 && begin % group == 0 && end % group == 0, "group_grid: rows {} to {} in {}", begin, end,
              layout_name(layout));
  if (grid.value_bytes == 1)
    group_grid_as(grid, begin, end, group, static_cast<std::uint8_t*>(to));
  else if (grid.value_bytes == 2)
    group_grid_as(grid, begin, end, group, static_cast<std::uint16_t*>(to));
  else
    group_grid_as(grid, begin, end, group, static_cast<std::uint32_t*>(to));
}

}  // namespace hadal::kernels
