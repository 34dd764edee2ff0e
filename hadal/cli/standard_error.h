// What is said on stderr. Where it cannot be written (a pipe that is closed, a full disk) it is lost, and work goes on.
#pragma once

#include <cstdio>
#include <string_view>

namespace hadal::cli {

inline void to_stderr(std::string_view text) {
  [[maybe_unused]] const std::size_t written = std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
  std::clearerr(stderr);
}

}  // namespace hadal::cli
