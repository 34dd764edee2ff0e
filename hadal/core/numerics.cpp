#include "hadal/core/numerics.h"

#include <array>
#include <utility>

namespace hadal {
namespace {

constexpr std::array<std::pair<Isa, std::string_view>, 4> kIsaNames = {
    {{Isa::kRef, "ref"}, {Isa::kAvx2, "avx2"}, {Isa::kAvx512, "avx512"}, {Isa::kAvx512Bf16, "avx512-bf16"}}};
constexpr std::array<std::pair<Activations, std::string_view>, 4> kActivationsNames = {{{Activations::kF32, "f32"},
                                                                                        {Activations::kBf16, "bf16"},
                                                                                        {Activations::kInt8, "int8"},
                                                                                        {Activations::kFp8, "fp8"}}};

template <class Table>
auto value_of(const Table& table, std::string_view name) -> std::optional<typename Table::value_type::first_type> {
  for (const auto& [value, known] : table)
    if (known == name) return value;
  return std::nullopt;
}

template <class Table>
std::string_view name_of(const Table& table, typename Table::value_type::first_type wanted) {
  for (const auto& [value, name] : table)
    if (value == wanted) return name;
  return "";
}

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx512_bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512bf16");
}
#else
bool has_avx2() {
  return false;
}
bool has_avx512() {
  return false;
}
bool has_avx512_bf16() {
  return false;
}
#endif

}  // namespace

bool isa_supported(Isa isa) {
  switch (isa) {
    case Isa::kRef:
      return true;
    case Isa::kAvx2:
      return has_avx2();
    case Isa::kAvx512:
      return has_avx512();
    case Isa::kAvx512Bf16:
      return has_avx512_bf16();
  }
  return false;
}

Isa best_isa() {
  Isa best = Isa::kRef;
  for (Isa isa : kAllIsas)
    if (isa_supported(isa)) best = isa;
  return best;
}

std::optional<Isa> isa_from_name(std::string_view name) {
  return value_of(kIsaNames, name);
}

std::string_view isa_name(Isa isa) {
  return name_of(kIsaNames, isa);
}

std::optional<Activations> activations_from_name(std::string_view name) {
  return value_of(kActivationsNames, name);
}

std::string_view activations_name(Activations activations) {
  return name_of(kActivationsNames, activations);
}

}  // namespace hadal
