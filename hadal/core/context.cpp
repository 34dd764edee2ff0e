#include "hadal/core/context.h"

namespace hadal {

bool isa_supported(Isa isa) {
  switch (isa) {
    case Isa::kRef:
      return true;
    case Isa::kAvx2:
#if defined(__x86_64__)
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
      return false;
#endif
  }
  return false;
}

Isa best_isa() {
  return isa_supported(Isa::kAvx2) ? Isa::kAvx2 : Isa::kRef;
}

std::optional<Isa> isa_from_name(std::string_view name) {
  if (name == "ref") return Isa::kRef;
  if (name == "avx2") return Isa::kAvx2;
  return std::nullopt;
}

std::string_view isa_name(Isa isa) {
  return isa == Isa::kRef ? "ref" : "avx2";
}

}  // namespace hadal
