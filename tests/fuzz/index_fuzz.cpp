// model.safetensors.index.json of any bytes: an error or a map to files of the same directory.
#include <cstdint>
#include <string_view>

#include "hadal/core/error.h"
#include "hadal/io/weight_index.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    for (const auto& [name, file] : hadal::io::parse_weight_index({reinterpret_cast<const char*>(data), size}, "input"))
      if (file.empty() || file.find('/') != file.npos) __builtin_trap();
  } catch (const hadal::Error&) {
  }
  return 0;
}
