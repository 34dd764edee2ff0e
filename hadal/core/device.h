// Where tensors are computed and kept: the processor with the program's own memory, or a device with memory of its own
// that the host reaches by copies alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace hadal {

struct Device {
  enum class Kind : std::uint8_t { kCpu, kGpu };
  Kind kind = Kind::kCpu;
  std::uint8_t index = 0;  // among those of a kind

  bool is_host() const { return kind == Kind::kCpu; }
  friend bool operator==(const Device&, const Device&) = default;
};

std::string device_name(Device device);  // "cpu", "gpu 0"

// Memory of a device, and the way there. It outlives everything that was allocated from it. Copies are done when they
// return. One thread at a time, but for the host's.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual Device device() const = 0;
  // Uninitialised, aligned to at least 64 bytes; throws OutOfMemory.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void free(void* p) noexcept = 0;
  virtual void copy_from_host(void* to, const void* from, std::size_t bytes) = 0;
  virtual void copy_to_host(void* to, const void* from, std::size_t bytes) = 0;
  virtual void copy_within(void* to, const void* from, std::size_t bytes) = 0;
};

DeviceMemory& host_memory();

}  // namespace hadal
