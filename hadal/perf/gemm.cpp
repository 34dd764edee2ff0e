#include "hadal/perf/gemm.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <sstream>

#include "hadal/core/random.h"
#include "hadal/ops/linear.h"

namespace hadal::perf {
namespace {

constexpr double kRunFlops = 4e9;    // about what one run computes at least, if the copies allow it
constexpr Index kLargest = 1 << 20;  // of m, n and k
constexpr Index kInt4Group = 32;

// How a format is stored, and a mask and bits that make random bytes into numbers of moderate size.
struct Format {
  std::string_view name;
  DType dtype;
  std::uint32_t keep = ~0u, set = 0;
};
constexpr std::array<Format, 6> kFormats = {{
    {"fp8", DType::kF8E4M3, 0xBFBFBFBF, 0},  // magnitudes below 2, no NaN
    {"bf16", DType::kBF16, 0x807F807F, 0x3F003F00},
    {"f16", DType::kF16, 0x83FF83FF, 0x38003800},
    {"f32", DType::kF32, 0x807FFFFF, 0x3F000000},
    {"int8", DType::kI8},
    {"int4", DType::kI32},
}};

const Format* find_format(std::string_view name) {
  const auto* found = std::find_if(kFormats.begin(), kFormats.end(), [&](const Format& f) { return f.name == name; });
  return found == kFormats.end() ? nullptr : found;
}

void fill(const TensorRef& tensor, const Format& format, std::uint64_t seed) {
  auto* bytes = static_cast<std::uint8_t*>(tensor.raw());
  std::uint64_t state = seed * 2 + 1;
  for (Index i = 0; i < tensor.num_bytes(); i += 4) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const std::uint32_t word = (static_cast<std::uint32_t>(state >> 32) & format.keep) | format.set;
    std::memcpy(bytes + i, &word, static_cast<std::size_t>(std::min<Index>(4, tensor.num_bytes() - i)));
  }
}

struct Matrix {
  Tensor values, scale;
  ops::Weight weight;

  Matrix(const GemmShape& s, const Format& format, std::uint64_t seed) {
    const bool int4 = format.dtype == DType::kI32;
    values = Tensor(format.dtype, {s.n, int4 ? (s.k + 7) / 8 : s.k});
    fill(values, format, seed);
    weight.values = values;
    if (int4) {
      weight.scale_rows = 1;
      weight.scale_columns = kInt4Group;
      weight.packed_columns = s.k;
    }
    if (!int4 && format.dtype != DType::kF8E4M3 && format.dtype != DType::kI8) return;
    scale = Tensor(DType::kF32, {ops::num_blocks(s.n, weight.scale_rows), ops::num_blocks(s.k, weight.scale_columns)});
    std::fill_n(scale->data<float>(), scale->num_elements(), 0.01f);
    weight.scale = scale;
  }
  double bytes() const {
    return static_cast<double>(values->num_bytes()) + (scale ? static_cast<double>(scale->num_bytes()) : 0);
  }
};

std::vector<Matrix> cold_copies(const GemmShape& shape, const Format& format, double cold_bytes) {
  std::vector<Matrix> copies;
  double bytes = 0;
  while (copies.empty() || bytes < cold_bytes) {
    copies.emplace_back(shape, format, copies.size());
    bytes += copies.back().bytes();
  }
  return copies;
}

TensorRef random_rows(Context& ctx, Index m, Index k, std::uint64_t seed) {
  const TensorRef x = ctx.workspace.floats({m, k});
  const Philox random(seed, 2);
  for (Index i = 0; i < x.num_elements(); ++i)
    x.data<float>()[i] = static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) * 2 - 1);
  return x;
}

}  // namespace

std::vector<GemmShape> default_gemm_shapes() {
  constexpr Index kMatrices[][2] = {{3072, 2048}, {576, 2048},  {4096, 512},   {2048, 2048},
                                    {1408, 2048}, {2048, 1408}, {11264, 2048}, {2048, 11264}};
  std::vector<GemmShape> shapes;
  for (const Index m : {1, 8, 512}) {
    for (const auto& [n, k] : kMatrices) shapes.push_back({m, n, k, ""});
    shapes.push_back({m, 32768, 2048, "bf16"});  // the head
  }
  return shapes;
}

std::vector<GemmShape> parse_gemm_shapes(const std::string& text, const std::string& where) {
  std::vector<GemmShape> shapes;
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::istringstream fields(line.substr(0, line.find('#')));
    std::string first, rest;
    if (!(fields >> first)) continue;
    GemmShape s;
    std::istringstream numbers(line);
    const bool read = static_cast<bool>(numbers >> s.m >> s.n >> s.k);
    fields >> rest >> rest >> s.format;
    if (s.format.starts_with('#')) s.format.clear();
    const bool sizes = read && std::min({s.m, s.n, s.k}) >= 1 && std::max({s.m, s.n, s.k}) <= kLargest;
    HADAL_CHECK(sizes,
                "{}, line {}: \"{}\" is not M N K, three numbers between 1 and {}, with a format behind them or not",
                where, number, line, kLargest);
    HADAL_CHECK(s.format.empty() || find_format(s.format),
                "{}, line {}: format {} is not known; fp8, bf16, f16, f32, int8 and int4 are", where, number, s.format);
    HADAL_CHECK(!(fields >> rest), "{}, line {}: \"{}\" has more than M N K FORMAT", where, number, line);
    shapes.push_back(s);
  }
  HADAL_CHECK(!shapes.empty(), "{}: has no line M N K", where);
  return shapes;
}

Row measure_gemm(Context& ctx, const ReadTarget& memory, const GemmShape& shape, const RunOptions& options,
                 double cold_bytes) {
  const Format* format = find_format(shape.format);
  HADAL_CHECK(format, "format: {} is not known; fp8, bf16, f16, f32, int8 and int4 are", shape.format);
  const std::vector<Matrix> copies = cold_copies(shape, *format, cold_bytes);
  const Workspace::Scope scope(ctx.workspace);
  const TensorRef x = random_rows(ctx, shape.m, shape.k, options.seed);
  PassWork work;
  work[Phase::kProjections] = {copies[0].bytes(),
                               2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n * shape.k)};
  const double flops = work.linears().flops;
  const auto calls = static_cast<std::size_t>(std::clamp(kRunFlops / flops, 1.0, static_cast<double>(copies.size())));
  const auto multiply = [&](std::size_t first) {
    for (std::size_t i = 0; i < calls; ++i) {
      const Workspace::Scope result(ctx.workspace);
      ops::linear(ctx, x, copies[(first + i) % copies.size()].weight);
    }
  };
  multiply(0);
  LimitMeter meter(ctx, memory, loops_for(ctx));
  std::vector<double> speeds;
  for (Index run = 0; run < options.runs; ++run) {
    options.poll();
    meter.sample();
    const auto start = std::chrono::steady_clock::now();
    multiply(static_cast<std::size_t>(run) * calls);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    speeds.push_back(flops * static_cast<double>(calls) / seconds.count() * 1e-9);
  }
  Row row{.unit = "GFLOP/s", .value = spread_of(speeds)};
  row.name = fmt::format("gemm m={} n={} k={} format={} threads={} isa={} activations={}", shape.m, shape.n, shape.k,
                         shape.format, ctx.threads.num_threads(), isa_name(ctx.numerics.isa),
                         activations_name(ctx.numerics.activations));
  set_work(row, work, 1);
  set_limits(row, meter, work, flops * 1e-9, ctx, nullptr);
  return row;
}

}  // namespace hadal::perf
