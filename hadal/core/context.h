// What every computation is given: threads, instruction set, how activations are rounded, and who watches. Passed
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

// Threads, memory for intermediate results, observers of a pass, and how numbers are computed. What with() gives shares
// the first three.
class Context {
  struct Shared {
    explicit Shared(int num_threads) : threads(num_threads) {}
    ThreadPool threads;
    Workspace workspace;
    Observers observers;
  };
  std::shared_ptr<Shared> shared_;

 public:
  explicit Context(int num_threads, const Numerics& n) : Context(std::make_shared<Shared>(num_threads), n) {}
  explicit Context(int num_threads = 0, Isa isa = best_isa()) : Context(num_threads, Numerics{.isa = isa}) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // The same threads, workspace and observers. Not for use at the same time.
  Context with(const Numerics& n) const { return Context(shared_, n); }

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
  Context(std::shared_ptr<Shared> shared, const Numerics& n)
      : shared_(std::move(shared)),
        threads(shared_->threads),
        workspace(shared_->workspace),
        observers(shared_->observers),
        numerics(n) {}
};

}  // namespace hadal
