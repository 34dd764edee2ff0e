// Random products in every weight format, for the tests of the kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"
#include "hadal/kernels/linear.h"
#include "hadal/kernels/test_scratch.h"

namespace hadal::kernels {

inline constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

// A weight format as it comes in checkpoints.
struct Format {
  const char* name;
  DType dtype;
  Index scale_rows, scale_columns;  // 0: no scale; columns -1: one scale a row
  DType scale_dtype = DType::kF32;
  bool zeros = false;
};

inline constexpr Format kFormats[] = {{"F32", DType::kF32, 0, 0},
                                      {"BF16", DType::kBF16, 0, 0},
                                      {"F16", DType::kF16, 0, 0},
                                      {"FP8", DType::kF8E4M3, 128, 128},
                                      {"INT8_blocks", DType::kI8, 128, 128},
                                      {"INT8_channels", DType::kI8, 1, -1},
                                      {"INT4_32", DType::kI32, 1, 32, DType::kBF16},
                                      {"INT4_128", DType::kI32, 1, 128, DType::kF32},
                                      {"INT4_64_zeros", DType::kI32, 1, 64, DType::kF16, true}};

template <class T>
void append(std::vector<std::uint8_t>& bytes, const T& value) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(&value);
  bytes.insert(bytes.end(), p, p + sizeof(T));
}

struct Problem {
  Format format;
  Index m, n, k, first_row;
  Index scale_columns, groups;
  Activations activations = Activations::kF32;
  std::vector<float> x, x_scale;
  std::vector<std::uint8_t> w, scale, zero;

  Problem(const Format& f, Index rows, Index columns, Index depth, Index row0, std::uint64_t seed)
      : format(f), m(rows), n(columns), k(depth), first_row(f.scale_rows == 0 ? 0 : row0) {
    const Philox random(seed, 1);
    std::uint64_t at = 0;
    const auto uniform = [&] { return static_cast<float>(random.uniform(at++) * 2 - 1); };
    scale_columns = format.scale_columns > 0 ? format.scale_columns : k;
    groups = (k + scale_columns - 1) / scale_columns;
    for (Index i = 0; i < m * k; ++i) x.push_back(uniform());
    for (Index i = 0; i < m * ((k + 127) / 128); ++i) x_scale.push_back(0.5f + std::abs(uniform()));
    const Index scale_rows = format.scale_rows ? (first_row + n + format.scale_rows - 1) / format.scale_rows : 0;
    for (Index i = 0; i < scale_rows * groups; ++i) {
      append_number(scale, format.scale_dtype, 0.01f + std::abs(uniform()));
      zero.push_back(static_cast<std::uint8_t>(random.block(at++)[0] % 16));
    }
    for (Index r = 0; r < n; ++r) append_row(random, at);
  }

  static void append_number(std::vector<std::uint8_t>& to, DType dtype, float v) {
    if (dtype == DType::kF32)
      append(to, v);
    else if (dtype == DType::kBF16)
      append(to, float_to_bf16(v));
    else
      append(to, float_to_f16(v));
  }

  void append_row(const Philox& random, std::uint64_t& at) {
    if (format.dtype == DType::kI32)
      for (Index c = 0; c < (k + 7) / 8; ++c) append(w, random.block(at++)[0]);
    else
      for (Index c = 0; c < k; ++c) {
        const std::uint32_t bits = random.block(at++)[0];
        if (format.dtype == DType::kI8)
          w.push_back(static_cast<std::uint8_t>(bits));
        else if (format.dtype == DType::kF8E4M3)
          w.push_back(static_cast<std::uint8_t>((bits >> 8) % 0x7F | (bits & 0x80)));
        else
          append_number(w, format.dtype, static_cast<float>(bits) * 0x1p-31f - 1);
      }
  }

  LinearArgs args(std::vector<float>& y, bool rounded = false) const {
    LinearArgs a;
    a.x = x.data();
    a.x_stride = k;
    a.activations = activations;
    a.w = w.data();
    a.w_dtype = format.dtype;
    a.w_stride = format.dtype == DType::kI32 ? (k + 7) / 8 : k;
    if (format.scale_rows > 0) {
      a.w_scale = scale.data();
      a.w_scale_dtype = format.scale_dtype;
      a.w_scale_stride = groups;
      a.scale_rows = format.scale_rows;
      a.scale_columns = scale_columns;
      a.w_first_row = first_row;
      if (format.zeros) a.w_zero = zero.data();
      if (rounded && format.dtype == DType::kF8E4M3) a.x_scale = x_scale.data(), a.x_scale_stride = (k + 127) / 128;
    }
    y.assign(static_cast<std::size_t>(m * n), kPoison);
    a.y = y.data();
    a.y_stride = n;
    a.m = m;
    a.n = n;
    a.k = k;
    return a;
  }
};

// Whether kernels of an instruction set make integers of 16 bits of float32 activations, and those of a block of x
// (cpu/avx2/fixed_point.h), times `unit`.
inline bool in_words(Isa isa, const Problem& p) {
  return isa == Isa::kAvx2 && p.format.dtype == DType::kI32 && p.activations == Activations::kF32;
}

struct FixedPoint {
  std::vector<std::int64_t> numbers;
  float unit = 0;
};

// The largest magnitude of a block, 2^-80 at least, or nothing if that is not a number.
inline std::optional<float> largest_magnitude(const std::vector<float>& x) {
  float largest = 0x1p-80f;
  for (const float v : x) {
    if (!std::isfinite(v)) return {};
    largest = std::max(largest, std::abs(v));
  }
  return largest;
}

inline FixedPoint to_words(const std::vector<float>& x) {
  FixedPoint f{std::vector<std::int64_t>(x.size()), kPoison};
  const auto largest = largest_magnitude(x);
  if (!largest) return f;
  f.unit = std::ldexp(1.0f, std::ilogb(*largest) - 14);
  for (std::size_t i = 0; i < x.size(); ++i)
    f.numbers[i] = std::min<std::int64_t>(std::llrint(double{x[i]} / f.unit), 32767);
  return f;
}

// The same product of the x that those integers stand for.
inline Problem with_words(Problem p) {
  const Index block = std::min<Index>(p.scale_columns, 128);
  for (Index i = 0; i < p.m; ++i)
    for (Index begin = 0; begin < p.k; begin += block) {
      const auto x = p.x.begin() + i * p.k + begin;
      const Index columns = std::min(block, p.k - begin);
      const FixedPoint f = to_words({x, x + columns});
      for (Index c = 0; c < columns; ++c) x[c] = static_cast<float>(f.numbers[static_cast<std::size_t>(c)]) * f.unit;
    }
  return p;
}

inline std::vector<float> run(Isa isa, const Problem& p, bool rounded = false) {
  std::vector<float> y;
  multiply(isa, p.args(y, rounded), 0, p.n);
  return y;
}

inline bool same_bits(const std::vector<float>& a, const float* b) {
  return std::memcmp(a.data(), b, a.size() * sizeof(float)) == 0;
}

}  // namespace hadal::kernels
