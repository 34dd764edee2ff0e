// Products of stored weights at given shapes, without a model.
#pragma once

#include <string>
#include <vector>

#include "hadal/perf/model_bench.h"

namespace hadal::perf {

struct GemmShape {
  Index m = 0, n = 0, k = 0;  // rows of x, rows and columns of the weight
  std::string format;         // "fp8", "bf16", "f16", "f32", "int8" or "int4"; empty: the command's
};

// The linears of shapes/moonlight-16e, with 1, 8 and 512 rows.
std::vector<GemmShape> default_gemm_shapes();

// Lines "M N K" or "M N K FORMAT"; # begins a comment. Throws Error naming `where` and the line.
std::vector<GemmShape> parse_gemm_shapes(const std::string& text, const std::string& where);

// GFLOP/s of ops::linear with random weights that are not in the caches: as many copies as make `cold_bytes`.
Row measure_gemm(Context& ctx, const ReadTarget& memory, const GemmShape& shape, const RunOptions& options,
                 double cold_bytes = 256.0 * (1 << 20));

}  // namespace hadal::perf
