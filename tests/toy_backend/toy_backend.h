// A back end on "another device", to see that one can be added by linking alone and that nothing but its kernels and
// copies touches its memory: the scalar reference on pages that nobody may read or write meanwhile.
#pragma once

#include "hadal/core/device.h"

namespace hadal::test {

DeviceMemory& toy_memory();

}  // namespace hadal::test
