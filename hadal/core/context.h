// What every computation is given: threads, instruction set and how activations are rounded. Passed first, by
// reference; there are no globals.
#pragma once

#include <optional>
#include <string_view>

#include "hadal/core/thread_pool.h"
#include "hadal/core/workspace.h"

namespace hadal {

// Which set of kernels runs. kRef is the scalar oracle and runs anywhere. Bits are a function of the ISA and of nothing
// else: not of threads, chunks or batches.
enum class Isa { kRef, kAvx2 };

Isa best_isa();                                           // by cpuid
std::optional<Isa> isa_from_name(std::string_view name);  // "ref", "avx2"
std::string_view isa_name(Isa isa);
bool isa_supported(Isa isa);

// How the inputs of FP8 linears are rounded before the product.
enum class Activations {
  kF32,  // not at all
  kFp8,  // 1x128 tiles in E4M3, as the reference inference code does (rule 33)
};

struct Context {
  explicit Context(int num_threads = 0, Isa isa_to_use = best_isa()) : threads(num_threads), isa(isa_to_use) {}

  ThreadPool threads;
  Workspace workspace;
  Isa isa;
  Activations activations = Activations::kF32;
};

}  // namespace hadal
