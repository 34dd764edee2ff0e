// A safetensors file of any bytes: an error or a header whose tensors lie inside it.
#include <cstdint>
#include <span>

#include "hadal/core/error.h"
#include "hadal/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto header = hadal::io::SafetensorsHeader::parse(std::as_bytes(std::span(data, size)), size, "input");
    for (const auto& t : header.tensors)
      if (t.end > size || t.begin > t.end) __builtin_trap();
  } catch (const hadal::Error&) {
  }
  return 0;
}
