// tiktoken.model and tokenizer_config.json of any bytes.
#include <cstdint>
#include <string_view>

#include "hadal/core/error.h"
#include "hadal/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    hadal::tokenizer::parse_tokenizer_config(text, "input");
  } catch (const hadal::Error&) {
  }
  try {
    const hadal::tokenizer::Tokenizer tokenizer(hadal::tokenizer::parse_tiktoken_model(text, {}, "input"), {}, "input");
    tokenizer.encode("Hello 123 <|reserved_token_1|> \xFF\xFE");
  } catch (const hadal::Error&) {
  }
  return 0;
}
