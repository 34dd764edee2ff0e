// Decoding and prompts of a loaded model beside their limits. Every measurement is taken in turns with the loops that
// limit it, on the same threads.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hadal/stream/loader.h"
#include "hadal/perf/roofline.h"

namespace hadal::perf {

using config::TokenId;

// Called between steps; throws to end the benchmark.
using Poll = std::function<void()>;

struct RunOptions {
  Index runs = 5;
  std::uint64_t seed = 0;  // of token ids and cache entries
  DType cache_dtype = DType::kF32;
  Index chunk = 1024;  // prompt tokens computed at a time
  Poll poll = [] {};
};

struct DecodeCase {
  Index depth = 0;      // tokens in the cache before the first step
  Index sequences = 1;  // decoded together
  Index steps = 16;     // of one run
};

// One decoding step of several sequences: token i behind states[i]; returns logits [sequences, vocab_size] in
// ctx.workspace.
TensorRef decode_step(Context& ctx, const model::Transformer& transformer,
                      std::span<model::SequenceState* const> states, std::span<const TokenId> tokens);

class ModelBench {
 public:
  explicit ModelBench(stream::LoadedModel& model) : model_(model), work_(model.transformer) {}

  // Tokens a second over steps of random ids: model, head and greedy sampling. The cache is filled with random entries.
  // Throws Error if depth and steps are more than the model's context.
  Row decode(Context& ctx, const DecodeCase& what, const RunOptions& options);
  // Tokens a second from an empty cache to the logits of the last row, by the engine.
  Row prompt(Context& ctx, Index length, const RunOptions& options);

  const ModelWork& work() const { return work_; }

  // Milliseconds of a step, and of a prompt, by phase, each beside what its own bytes and operations take at least, and
  // all together.
  std::vector<Row> decode_phases(Context& ctx, const DecodeCase& what, const RunOptions& options);
  std::vector<Row> prompt_phases(Context& ctx, Index length, const RunOptions& options);

 private:
  void check_depth(Index depth, Index steps) const;
  void check_length(Index length) const;
  const ReadTarget& memory();  // made when first needed: that takes a while

  stream::LoadedModel& model_;
  ModelWork work_;
  std::optional<ReadTarget> memory_;
};

// "threads=2 isa=avx2 activations=f32 kv=f32", the end of a row's name.
std::string describe(const Context& ctx, DType cache_dtype);

// Uniform ids in [0, vocab_size).
std::vector<TokenId> random_ids(Index count, Index vocab_size, std::uint64_t seed);

}  // namespace hadal::perf
