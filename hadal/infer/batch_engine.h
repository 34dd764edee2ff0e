// Generation for many requests: up to N sequences are decoded together, so that each weight is read once for all of
// them. Answers are the same, bit for bit, whatever N is and whoever shares a pass.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "hadal/infer/sequence.h"

namespace hadal::infer {

// `request` is the index of the request it is about.
using OnBatchToken = std::function<Continue(std::size_t request, const Sample&)>;
using OnCompletion = std::function<void(std::size_t request, const Completion&)>;

// Not thread-safe: one call at a time. Keeps references to the context and the model, and a cache for each sequence.
class BatchEngine {
 public:
  BatchEngine(Context& ctx, const model::Transformer& transformer, EngineOptions options, Index batch);

  // Answers all requests, begun in their order; `on_completion` is called as they end. Throws InvalidRequest as
  // validate does, before anything is computed, and what observers throw: answers that have not ended are
  // lost then.
  void generate(std::span<const Request> requests, const OnBatchToken& on_token, const OnCompletion& on_completion);

 private:
  struct Slot {
    Sequence sequence;
    std::size_t request = 0;
    bool busy = false;
  };
  void fill(std::span<const Request> requests, std::size_t& next, const OnBatchToken& on_token);
  bool run_pass();
  void report(const OnCompletion& on_completion);

  Context& ctx_;
  const model::Transformer& transformer_;
  EngineOptions options_;
  std::vector<Slot> slots_;
};

}  // namespace hadal::infer
