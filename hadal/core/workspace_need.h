// How much memory for intermediate results a computation takes, without taking it. Light, so that kernels can include it.
#pragma once

#include <algorithm>
#include <cstddef>

#include "hadal/core/dtype.h"
#include "hadal/core/view.h"

namespace hadal {

// What a computation will take of a workspace: the same calls without memory, to know a bound before it runs. Next to
// whatever allocates stands a function that returns one.
class WorkspaceNeed {
 public:
  void tensor(DType dtype, Index elements);
  void floats(Index count) { tensor(DType::kF32, count); }
  // Something that leaves nothing behind, within a Scope of its own,
  void within(const WorkspaceNeed& other) { most_ = std::max(most_, held_ + other.most_); }
  // and something whose results stay.
  void then(const WorkspaceNeed& other) {
    within(other);
    held_ += other.held_;
  }

  std::size_t most() const { return most_; }  // bytes at a time

 private:
  std::size_t held_ = 0, most_ = 0;
};

}  // namespace hadal
