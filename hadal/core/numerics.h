// How numbers are computed: by which set of kernels, and how activations are rounded. Light, so that kernels can
// include it.
#pragma once

#include <optional>
#include <string_view>

namespace hadal {

// Which set of kernels runs, each a superset of the one before. kRef is the scalar oracle and runs anywhere. Bits are a
// function of the ISA and of the activations' format, and of nothing else: not of threads, chunks or batches.
enum class Isa {
  kRef,
  kAvx2,        // AVX2, FMA, F16C
  kAvx512,      // AVX-512 F, BW, DQ, VL
  kAvx512Bf16,  // and VNNI, VBMI, BF16: Zen 4, Sapphire Rapids and later
};

inline constexpr Isa kAllIsas[] = {Isa::kRef, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16};

Isa best_isa();                                           // by cpuid
std::optional<Isa> isa_from_name(std::string_view name);  // "ref", "avx2", "avx512", "avx512-bf16"
std::string_view isa_name(Isa isa);
bool isa_supported(Isa isa);

// How the inputs of linears are rounded before the product.
enum class Activations {
  kF32,   // not at all
  kBf16,  // to BF16, as the published GPU engines do
  kInt8,  // to 8 bits with a scale per 128; FP8 and BF16 weights are rounded to 8 bits too
  kFp8,   // 1x128 tiles in E4M3 where the weight is FP8, as the reference inference code does (rule 33)
};

std::optional<Activations> activations_from_name(std::string_view name);  // "f32", "bf16", "int8", "fp8"
std::string_view activations_name(Activations activations);

// How numbers are computed. Fixed for a Context: who needs others makes another one (Context::with).
struct Numerics {
  Isa isa = best_isa();
  Activations activations = Activations::kF32;
  friend bool operator==(const Numerics&, const Numerics&) = default;
};

}  // namespace hadal
