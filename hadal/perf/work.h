// What a forward pass has to do at least, counted from the shapes: bytes of weights to read and floating-point
// operations, phase by phase. Norms, softmax, rope and the mixture's sums are left out of the operations: they are
// below a thousandth.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "hadal/model/transformer.h"
#include "hadal/perf/phase_times.h"

namespace hadal::perf {

struct Work {
  double bytes = 0;  // stored bytes read, scales included
  double flops = 0;  // a multiply-add is two

  Work& operator+=(const Work& other) {
    bytes += other.bytes;
    flops += other.flops;
    return *this;
  }
};

struct PassWork {
  std::array<Work, kNumPhases> phases{};

  Work& operator[](Phase phase) { return phases[static_cast<std::size_t>(phase)]; }
  const Work& operator[](Phase phase) const { return phases[static_cast<std::size_t>(phase)]; }
  PassWork& operator+=(const PassWork& other);
  Work linears() const;  // all but attention's core
};

// The routed experts that the passes it watched really ran, by layer.
class TouchedExperts : public Observer {
 public:
  void on_boundary(Index layer) override { layer_ = layer; }
  void on_value(std::string_view name, const ConstTensorRef& value) override;
  void add(Index layer, Index expert) { of_layer_[static_cast<std::size_t>(layer)].insert(expert); }
  const std::set<Index>& of_layer(Index layer) const { return of_layer_[static_cast<std::size_t>(layer)]; }
  void clear();

  explicit TouchedExperts(const config::Config& config)
      : of_layer_(static_cast<std::size_t>(config.num_hidden_layers)) {}

 private:
  std::vector<std::set<Index>> of_layer_;
  Index layer_ = -1;
};

class ModelWork {
 public:
  // Bytes of one parameter as stored, with its scales.
  using BytesOf = std::function<double(const std::string& name, const weights::Weight&, const weights::ParamInfo&)>;

  // Of a loaded model; MTP layers are not counted.
  explicit ModelWork(model::Transformer& transformer);
  // Of shapes alone.
  ModelWork(model::Transformer& transformer, const BytesOf& bytes_of);

  // One decoding step: a sequence per entry, which attends to that many positions, its own included. Attention in the
  // absorbed form; its bytes are the cache's, `cache_value_bytes` a value.
  PassWork decode_step(std::span<const Index> visible, const TouchedExperts& touched, double cache_value_bytes) const;

  // A prompt from an empty cache, attention expanded and causal, each position's keys and values made once, the head
  // for the last row.
  PassWork prompt(Index length, const TouchedExperts& touched) const;

  double total_bytes() const { return total_bytes_; }

 private:
  void add(const std::string& name, const weights::ParamInfo& info, double bytes);
  PassWork rows(Index count, const TouchedExperts& touched) const;  // without attention and head

  config::Config config_;
  PassWork once_;  // bytes read whatever the rows; operations of one row
  Work head_;      // one row
  double embedding_row_ = 0;
  double total_bytes_ = 0;
  std::vector<std::vector<double>> expert_bytes_;  // [layer][expert]
  double expert_flops_ = 0;                        // of one row through its chosen experts of every layer
};

}  // namespace hadal::perf
