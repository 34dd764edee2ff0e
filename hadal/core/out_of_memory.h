// The one error that a caller may want to go around: the system has not the memory that was asked for, and something
// smaller may do.
#pragma once

#include "hadal/core/error.h"

namespace hadal {

class OutOfMemory : public Error {
 public:
  using Error::Error;
};

}  // namespace hadal
