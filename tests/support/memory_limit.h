// Less address space for a while, as under `ulimit -v`.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <fstream>

namespace hadal::test {

class MemoryLimit {
 public:
  // As much as the process has now, and `more` bytes (or, if it is negative, less: then nothing more is to be had until
  // that much has been given back).
  explicit MemoryLimit(std::int64_t more) {
    getrlimit(RLIMIT_AS, &before_);
    rlimit now = before_;
    now.rlim_cur = static_cast<rlim_t>(address_space() + more);
    setrlimit(RLIMIT_AS, &now);
  }
  ~MemoryLimit() { setrlimit(RLIMIT_AS, &before_); }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

  static constexpr bool works() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#else
    return true;
#endif
  }

 private:
  static std::int64_t address_space() {
    std::int64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * 4096;
  }
  rlimit before_{};
};

}  // namespace hadal::test
