// tokenizer.json of any bytes: an error or a tokenizer that encodes.
#include <cstdint>
#include <string_view>

#include "hadal/core/error.h"
#include "hadal/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const hadal::tokenizer::Tokenizer tokenizer(hadal::tokenizer::parse_tokenizer_json(text, "input"), {}, "input");
    tokenizer.encode("Hello 123 <x> \xFF\xFE");
  } catch (const hadal::Error&) {
  }
  return 0;
}
