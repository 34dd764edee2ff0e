// A chat template of any bytes over a small conversation.
#include <cstdint>
#include <nlohmann/json.hpp>

#include "hadal/core/error.h"
#include "hadal/tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto messages =
      nlohmann::ordered_json::parse(R"([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A",
      "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}])");
  try {
    hadal::tokenizer::ChatTemplate(std::string(reinterpret_cast<const char*>(data), size), "<s>", "</s>", "input")
        .render(messages, messages);
  } catch (const hadal::Error&) {
  }
  return 0;
}
