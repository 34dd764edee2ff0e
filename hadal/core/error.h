// Errors: one exception type, thrown by every library and reported once, at a boundary (main, a request handler, a
// worker thread's entry). A message is one sentence that names the file or operation, what was expected, what came and,
// where it is known, the fix.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace hadal {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The caller's request is at fault, not the model or the machine (a server answers it with 4xx).
class InvalidRequest : public Error {
 public:
  using Error::Error;
};

// Whoever started the work asked for its end (Ctrl-C): nothing is wrong.
class Interrupted : public Error {
 public:
  using Error::Error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace hadal

// Always on. The message is a fmt format string with its arguments; it is what the user reads, so it says which file or
// operation, what was expected and what came.
#define HADAL_CHECK(condition, ...)               \
  do {                                            \
    if (!(condition)) ::hadal::fail(__VA_ARGS__); \
  } while (false)
