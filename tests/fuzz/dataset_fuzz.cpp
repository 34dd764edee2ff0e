// dataset.json and the state of a loader of any bytes: an error, or what is written again as it was read.
#include <string_view>

#include "hadal/core/error.h"
#include "hadal/data/loader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(input), size);
  try {
    const auto info = hadal::data::parse_dataset_info(text, "input");
    const auto again = hadal::data::parse_dataset_info(hadal::data::to_json(info).dump(), "again");
    if (hadal::data::to_json(again) != hadal::data::to_json(info)) __builtin_trap();
  } catch (const hadal::Error&) {
  }
  try {
    const auto state = hadal::data::parse_loader_state(hadal::io::parse_json(text, "input"), "input");
    const auto again = hadal::data::parse_loader_state(hadal::data::to_json(state), "again");
    if (hadal::data::to_json(again) != hadal::data::to_json(state)) __builtin_trap();
  } catch (const hadal::Error&) {
  }
  return 0;
}
