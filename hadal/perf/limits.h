// The machine's limits, measured: loops of kernels/limits.h on all threads of a Context.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/core/tensor.h"
#include "hadal/stream/loader.h"
#include "hadal/perf/statistics.h"

namespace hadal::perf {

enum class LoopKind { kRead, kFma, kBf16Dot, kInt8Dot };

struct Loop {
  LoopKind kind;
  Isa isa = Isa::kRef;  // of kRead and kFma; the dot products need kAvx512Bf16

  std::string name() const;  // "read-avx2", "fma-avx512", "bf16-dot", "int8-dot"
  const char* unit() const { return kind == LoopKind::kRead ? "GB/s" : "GFLOP/s"; }
  friend auto operator<=>(const Loop&, const Loop&) = default;
};

// The loops that this machine can run, at most up to `most`.
std::vector<Loop> loops_up_to(Isa most);
// What limits reading, and arithmetic, of a context: AVX-512 BF16 machines read and multiply float32 as AVX-512 ones
// do; BF16 and 8-bit activations are set beside the dot products where there are such.
Loop read_loop_of(Isa isa);
Loop fma_loop_of(Isa isa);
Loop compute_loop_of(Isa isa, Activations activations);

// Memory for the read loop.
class ReadTarget {
 public:
  // The model's own weights where they are mapped, or memory of kSmallest bytes if the model is smaller than that.
  explicit ReadTarget(stream::LoadedModel& model);
  explicit ReadTarget(std::size_t anonymous_bytes);

  const std::vector<std::span<const std::byte>>& pieces() const { return pieces_; }
  std::size_t bytes() const { return bytes_; }
  bool is_model() const { return !memory_; }

  static constexpr std::size_t kSmallest = std::size_t{1} << 30;
  static constexpr std::size_t kLargest = std::size_t{4} << 30;

 private:
  void add(const void* data, std::size_t bytes);
  void allocate(std::size_t bytes);

  Tensor memory_;
  std::vector<std::span<const std::byte>> pieces_;
  std::size_t bytes_ = 0;
};

// One measurement: bytes or operations a second on all threads of the context.
double measure(Context& ctx, const Loop& loop, const ReadTarget& memory);

// Repeated measurements, to be taken in turns with what they are the limits of.
class LimitMeter {
 public:
  // Every loop of `loops`; the first read maps the pages and is not counted.
  LimitMeter(Context& ctx, const ReadTarget& memory, std::vector<Loop> loops);
  void sample();
  double rate(const Loop& loop) const { return spread(loop).median; }  // bytes or operations a second
  Spread spread(const Loop& loop) const;
  const std::vector<Loop>& loops() const { return loops_; }

 private:
  Context& ctx_;
  const ReadTarget& memory_;
  std::vector<Loop> loops_;
  std::map<Loop, std::vector<double>> samples_;
};

}  // namespace hadal::perf
