// What every computation is given: a device and its memory, threads, how numbers are computed, and who watches. Passed
// first, by reference; there are no globals.
#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include "hadal/core/numerics.h"
#include "hadal/core/observer.h"
#include "hadal/core/thread_pool.h"
#include "hadal/core/workspace.h"

namespace hadal {

// The device that computes, by its memory; threads, memory for intermediate results, observers of a pass; and how
// numbers are computed. What with() gives shares all but the last.
class Context {
  struct Shared {
    Shared(int num_threads, DeviceMemory& device_memory)
        : memory(device_memory), threads(num_threads), workspace(device_memory) {}
    DeviceMemory& memory;
    ThreadPool threads;
    Workspace workspace;
    Observers observers;
  };
  std::shared_ptr<Shared> shared_;

 public:
  // `device_memory` must outlive it. On a device other than the host, `numerics.isa` says nothing.
  explicit Context(int num_threads, const Numerics& n, DeviceMemory& device_memory = host_memory())
      : Context(std::make_shared<Shared>(num_threads, device_memory), n, nullptr) {}
  explicit Context(int num_threads = 0, Isa isa = best_isa()) : Context(num_threads, Numerics{.isa = isa}) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // The same device, threads, workspace and observers. Not for use at the same time.
  Context with(const Numerics& n) const { return Context(shared_, n, workspace); }
  // The same, but results are made in `other`, which is on the same device and must outlive it: for what has to live
  // longer than the scope that is open here.
  Context with(Workspace& other) const { return Context(shared_, numerics, other); }

  const Device device;
  DeviceMemory& memory;  // of the device
  ThreadPool& threads;
  Workspace& workspace;
  Observers& observers;
  const Numerics numerics;

  // Tells the observers of a value and returns it.
  TensorRef observe(std::string_view name, const TensorRef& value) const {
    observers.value(name, value);
    return value;
  }

 private:
  Context(std::shared_ptr<Shared> shared, const Numerics& n, Workspace& results)
      : Context(std::move(shared), n, &results) {}
  // Null: the shared workspace.
  Context(std::shared_ptr<Shared> shared, const Numerics& n, Workspace* results)
      : shared_(std::move(shared)),
        device(shared_->memory.device()),
        memory(shared_->memory),
        threads(shared_->threads),
        workspace(results ? *results : shared_->workspace),
        observers(shared_->observers),
        numerics(n) {}
};

}  // namespace hadal
