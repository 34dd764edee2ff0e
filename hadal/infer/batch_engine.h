// Answers to a list of requests, up to N of them at a time: the loop over Engine that a batch needs.
#pragma once

#include <functional>
#include <map>
#include <span>

#include "hadal/infer/engine.h"

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

  const SpeculationStats& speculation() const { return engine_.speculation(); }

 private:
  void drop(const std::map<RequestId, std::size_t>& open);

  const config::Config& config_;
  Engine engine_;
};

}  // namespace hadal::infer
