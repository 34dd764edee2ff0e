// What the products of linear_impl.h and attention_impl.h share; included like them.
#pragma once

#include "hadal/core/view.h"

namespace hadal::kernels::HADAL_ISA {
namespace {

constexpr int kPanelGroups = 2;  // vectors of outputs side by side in a tile

constexpr Index round_up(Index n, Index step) {
  return (n + step - 1) / step * step;
}

}  // namespace
}  // namespace hadal::kernels::HADAL_ISA
