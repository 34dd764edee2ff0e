// config.json and generation_config.json of any bytes: an error or a config that the model's parameter list accepts.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "hadal/core/error.h"
#include "hadal/io/generation_config.h"
#include "hadal/io/json.h"
#include "hadal/config/config.h"
#include "hadal/model/rotary.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto json = hadal::io::parse_json(text, "input");
    try {
      hadal::io::parse_generation_config(json, "input");
    } catch (const hadal::Error&) {
    }
    const auto config = hadal::config::parse_config(json, "input");
    if (config.qk_rope_head_dim < 100000) hadal::model::Rotary rotary(config);
  } catch (const hadal::Error&) {
  }
  return 0;
}
