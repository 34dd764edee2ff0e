#include "hadal/core/device.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "hadal/core/out_of_memory.h"

namespace hadal {
namespace {

// One cache line, and the widest vector of any instruction set we compile for.
constexpr std::size_t kLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

class HostMemory : public DeviceMemory {
 public:
  Device device() const override { return {}; }

  void* allocate(std::size_t bytes) override {
    // Large pieces on huge pages where the system allows it: packed inputs and panels are walked with long strides.
    const bool huge = bytes >= 2 * kHugePage;
    const std::size_t alignment = huge ? kHugePage : kLine;
    const std::size_t rounded = (bytes / alignment + 1) * alignment;
    void* p = std::aligned_alloc(alignment, rounded);
    if (!p) throw OutOfMemory(fmt::format("memory: {} bytes could not be had", rounded));
    if (huge) ::madvise(p, rounded, MADV_HUGEPAGE);
    return p;
  }
  void free(void* p) noexcept override { std::free(p); }
  void copy_from_host(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }
  void copy_within(void* to, const void* from, std::size_t bytes) override { copy(to, from, bytes); }

 private:
  static void copy(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
};

}  // namespace

std::string device_name(Device device) {
  return device.is_host() ? "cpu" : fmt::format("gpu {}", device.index);
}

DeviceMemory& host_memory() {
  // Never destroyed: tensors in static storage may be freed last.
  static DeviceMemory& memory = *new HostMemory;
  return memory;
}

}  // namespace hadal
