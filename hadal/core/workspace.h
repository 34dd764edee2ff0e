// Memory for intermediate results: an arena that grows when a pass needs more than any before it, and is used again. A
// tensor lives until the innermost Scope that was open when it was made is closed.
#pragma once

#include <cstddef>
#include <vector>

#include "hadal/core/tensor.h"
#include "hadal/core/workspace_need.h"

namespace hadal {

class Workspace {
 public:
  // Gives back everything allocated since its construction. Scopes nest strictly.
  class Scope {
   public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), block_(workspace.block_), used_(workspace.used_) {}
    ~Scope() { workspace_.rewind(block_, used_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Workspace& workspace_;
    std::size_t block_, used_;
  };

  // On the device of `memory`, which must outlive it.
  explicit Workspace(DeviceMemory& memory = host_memory()) : memory_(memory) {}

  TensorRef tensor(DType dtype, Shape shape);  // uninitialised, 64-byte aligned
  TensorRef floats(Shape shape) { return tensor(DType::kF32, shape); }
  // Makes room for `bytes` more in one piece, so that nothing has to grow as long as they are enough.
  void reserve(std::size_t bytes);
  std::size_t allocated_bytes() const;                  // reserved from the system so far
  std::size_t most_used() const { return most_used_; }  // bytes in use at a time, so far

 private:
  void rewind(std::size_t block, std::size_t used);

  DeviceMemory& memory_;
  std::vector<Tensor> blocks_;
  std::size_t block_ = 0;  // the one being filled
  std::size_t used_ = 0;   // bytes of it
  std::size_t most_used_ = 0;
};

}  // namespace hadal
