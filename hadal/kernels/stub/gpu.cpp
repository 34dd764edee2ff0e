// In place of kernels/gpu where it is not built: every operation is one error.
#include "hadal/core/error.h"
#include "hadal/kernels/backend.h"

namespace hadal::kernels::gpu {
namespace {

template <class Result, class... Args>
Result refuse(Args...) {
  fail("this build has no GPU back end; configure it with -DHADAL_BACKENDS=\"cpu;gpu\"");
}

}  // namespace

const Backend kBackend = {.packed_layout = refuse,
                          .linear = refuse,
                          .absorb = refuse,
                          .expand = refuse,
                          .pack_keys = refuse,
                          .attend_expanded = refuse,
                          .attend_absorbed = refuse,
                          .pack_entries = refuse,
                          .unpack_entries = refuse,
                          .gate = refuse,
                          .mixture = refuse,
                          .combine = refuse,
                          .rms_norm = refuse,
                          .swiglu = refuse,
                          .add = refuse,
                          .rope = refuse,
                          .copy = refuse,
                          .gather = refuse,
                          .embedding = refuse,
                          .to_float = refuse,
                          .from_float = refuse,
                          .linear_need = refuse,
                          .expand_need = refuse,
                          .attend_expanded_need = refuse,
                          .attend_absorbed_need = refuse,
                          .mixture_need = refuse,
                          .gate_need = refuse};

}  // namespace hadal::kernels::gpu
