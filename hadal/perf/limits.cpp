#include "hadal/perf/limits.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "hadal/kernels/limits.h"
#include "hadal/perf/statistics.h"

namespace hadal::perf {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{2} << 20;
constexpr std::int64_t kRounds = std::int64_t{1} << 18;  // below a millisecond
constexpr std::int64_t kPiecesPerThread = 24;

using ReadLoop = void (*)(const void*, std::int64_t, std::uint64_t*);
using ComputeLoop = double (*)(std::int64_t, float*);

ReadLoop read_function(Isa isa) {
  if (isa == Isa::kRef) return kernels::ref::read_loop;
  return isa == Isa::kAvx2 ? kernels::avx2::read_loop : kernels::avx512::read_loop;
}

ComputeLoop compute_function(const Loop& loop) {
  if (loop.kind == LoopKind::kBf16Dot) return kernels::avx512bf16::bf16_dot_loop;
  if (loop.kind == LoopKind::kInt8Dot) return kernels::avx512bf16::int8_dot_loop;
  if (loop.isa == Isa::kRef) return kernels::ref::fma_loop;
  return loop.isa == Isa::kAvx2 ? kernels::avx2::fma_loop : kernels::avx512::fma_loop;
}

double read_rate(Context& ctx, Isa isa, const ReadTarget& memory) {
  const ReadLoop read = read_function(isa);
  std::atomic<std::uint64_t> all{0};
  const double seconds = seconds_of([&] {
    ctx.threads.parallel_for(static_cast<Index>(memory.pieces().size()), 1, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const auto piece = memory.pieces()[static_cast<std::size_t>(i)];
        std::uint64_t sink = 0;
        read(piece.data(), static_cast<std::int64_t>(piece.size()), &sink);
        all.fetch_add(sink, std::memory_order_relaxed);
      }
    });
  });
  return static_cast<double>(memory.bytes()) / seconds;
}

double compute_rate(Context& ctx, const Loop& loop) {
  const ComputeLoop compute = compute_function(loop);
  std::vector<double> operations(static_cast<std::size_t>(ctx.threads.num_threads() * kPiecesPerThread));
  const double seconds = seconds_of([&] {
    ctx.threads.parallel_for(static_cast<Index>(operations.size()), 1, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        float sink = 0;
        operations[static_cast<std::size_t>(i)] = compute(kRounds, &sink);
      }
    });
  });
  double sum = 0;
  for (const double n : operations) sum += n;
  return sum / seconds;
}

}  // namespace

std::string Loop::name() const {
  if (kind == LoopKind::kBf16Dot) return "bf16-dot";
  if (kind == LoopKind::kInt8Dot) return "int8-dot";
  return (kind == LoopKind::kRead ? "read-" : "fma-") + std::string(isa_name(isa));
}

std::vector<Loop> loops_up_to(Isa most) {
  std::vector<Loop> loops;
  for (const LoopKind kind : {LoopKind::kRead, LoopKind::kFma})
    for (const Isa isa : {Isa::kRef, Isa::kAvx2, Isa::kAvx512})
      if (isa <= most && isa_supported(isa)) loops.push_back({kind, isa});
  if (most >= Isa::kAvx512Bf16 && isa_supported(Isa::kAvx512Bf16))
    for (const LoopKind kind : {LoopKind::kBf16Dot, LoopKind::kInt8Dot}) loops.push_back({kind, Isa::kAvx512Bf16});
  return loops;
}

Loop read_loop_of(Isa isa) {
  return {LoopKind::kRead, std::min(isa, Isa::kAvx512)};
}

Loop fma_loop_of(Isa isa) {
  return {LoopKind::kFma, std::min(isa, Isa::kAvx512)};
}

Loop compute_loop_of(Isa isa, Activations activations) {
  if (isa == Isa::kAvx512Bf16 && activations == Activations::kBf16) return {LoopKind::kBf16Dot, isa};
  if (isa == Isa::kAvx512Bf16 && activations == Activations::kInt8) return {LoopKind::kInt8Dot, isa};
  return fma_loop_of(isa);
}

ReadTarget::ReadTarget(stream::LoadedModel& model) {
  model.transformer.for_each_param([&](const std::string&, weights::Weight& weight, const weights::ParamInfo&) {
    if (weight) add(weight.any_form().raw(), static_cast<std::size_t>(weight.any_form().num_bytes()));
  });
  if (bytes_ < kSmallest) allocate(kSmallest);
}

ReadTarget::ReadTarget(std::size_t anonymous_bytes) {
  allocate(anonymous_bytes);
}

void ReadTarget::add(const void* data, std::size_t bytes) {
  const auto* at = static_cast<const std::byte*>(data);
  bytes = std::min(bytes, kLargest - bytes_);
  for (std::size_t done = 0; done < bytes; done += kPieceBytes)
    pieces_.emplace_back(at + done, std::min(kPieceBytes, bytes - done));
  bytes_ += bytes;
}

void ReadTarget::allocate(std::size_t bytes) {
  pieces_.clear();
  bytes_ = 0;
  memory_ = Tensor(DType::kU8, {static_cast<Index>(bytes)});
  std::memset(memory_->raw(), 1, bytes);
  add(memory_->raw(), bytes);
}

double measure(Context& ctx, const Loop& loop, const ReadTarget& memory) {
  return loop.kind == LoopKind::kRead ? read_rate(ctx, loop.isa, memory) : compute_rate(ctx, loop);
}

LimitMeter::LimitMeter(Context& ctx, const ReadTarget& memory, std::vector<Loop> loops)
    : ctx_(ctx), memory_(memory), loops_(std::move(loops)) {
  std::sort(loops_.begin(), loops_.end());
  loops_.erase(std::unique(loops_.begin(), loops_.end()), loops_.end());
  for (const Loop& loop : loops_)
    if (loop.kind == LoopKind::kRead) {
      measure(ctx_, loop, memory_);
      break;
    }
}

void LimitMeter::sample() {
  for (const Loop& loop : loops_) samples_[loop].push_back(measure(ctx_, loop, memory_));
}

Spread LimitMeter::spread(const Loop& loop) const {
  const auto found = samples_.find(loop);
  HADAL_CHECK(found != samples_.end(), "bench: {} was not measured", loop.name());
  return spread_of(found->second);
}

}  // namespace hadal::perf
