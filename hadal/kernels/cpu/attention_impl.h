// Attention of attention.h in both forms; included like linear_impl.h.
#pragma once

#include "hadal/kernels/cpu/absorbed_impl.h"
#include "hadal/kernels/cpu/expanded_impl.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr AttentionKernels kTable = {
    pack_keys,    expanded_scratch_floats, expanded,       packed_query_floats, pack_query,
    unpack_entry, absorbed_scratch_floats, absorbed_block, merge_blocks};

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
