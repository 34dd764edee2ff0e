#include "hadal/core/error.h"
#include "hadal/kernels/attention.h"
#include "hadal/kernels/linear.h"

namespace hadal::kernels {

const LinearKernels& linear_kernels(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return avx2::kLinear;
    case Isa::kAvx512:
      return avx512::kLinear;
    case Isa::kAvx512Bf16:
      return avx512bf16::kLinear;
    case Isa::kRef:
      break;
  }
  fail("linear: {} has no fast kernels", isa_name(isa));
}

const AttentionKernels& attention_kernels(Isa isa) {
  HADAL_CHECK(isa != Isa::kRef, "attention: {} has no fast kernels", isa_name(isa));
  return isa == Isa::kAvx2 ? avx2::kAttention : avx512::kAttention;
}

}  // namespace hadal::kernels
