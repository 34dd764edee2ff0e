// What a test expects to be refused says why.
#pragma once

#include <string>

#include "hadal/core/error.h"

namespace hadal::test {

// The message of the Error that body() throws; "nothing" if it throws none.
inline std::string said(const auto& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing";
}

}  // namespace hadal::test
