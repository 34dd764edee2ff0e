// NaN or infinity where a number was expected, as training may make them: whoever trains skips the batch.
#pragma once

#include "hadal/core/error.h"

namespace hadal {

class NotFinite : public Error {
 public:
  using Error::Error;
};

}  // namespace hadal
