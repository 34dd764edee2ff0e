// An answer of any text and markers in any pieces: the events of the pieces are those of the whole.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "hadal/chat/answer_parser.h"

namespace {

using namespace hadal;

const std::vector<std::string> kMarkers = {"<think>",
                                           "</think>",
                                           "<｜tool▁calls▁begin｜>",
                                           "<｜tool▁calls▁end｜>",
                                           "<｜tool▁call▁begin｜>",
                                           "<｜tool▁sep｜>",
                                           "<｜tool▁call▁end｜>",
                                           "<|tool_calls_section_begin|>",
                                           "<|tool_calls_section_end|>",
                                           "<|tool_call_begin|>",
                                           "<|tool_call_argument_begin|>",
                                           "<|tool_call_end|>",
                                           "｜DSML｜",
                                           "function_calls>\n",
                                           "invoke name=\"",
                                           "parameter name=\"",
                                           "\" string=\"true\">",
                                           "\" string=\"false\">",
                                           "invoke>",
                                           "parameter>\n",
                                           "```json\n",
                                           "\n```",
                                           "function"};

const chat::AnswerFormat& format(std::size_t which) {
  static std::vector<std::unique_ptr<chat::AnswerFormat>> made;
  if (made.empty()) {
    std::vector<tokenizer::AddedToken> tokens;
    for (std::size_t i = 0; i < 13; ++i) tokens.push_back({static_cast<tokenizer::TokenId>(i), kMarkers[i]});
    for (const char* family : {"deepseek-v3", "deepseek-v3.1", "deepseek-v3.2", "kimi-k2", "other"})
      for (const bool has : {true, false})
        made.push_back(std::make_unique<chat::AnswerFormat>(
            tokenizer::AddedTokens(has ? tokens : std::vector<tokenizer::AddedToken>()),
            chat::markup_of_family(family, true)));
  }
  return *made[which % made.size()];
}

void append(chat::Events& all, chat::Events more) {
  for (chat::Event& e : more) {
    if (!all.empty() && all.back().kind == e.kind && all.back().call == e.call && !e.text.empty())
      all.back().text += e.text;
    else
      all.push_back(std::move(e));
  }
}

}  // namespace

// The first byte chooses the format, the second the options; bytes above 0x7F are markers.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const chat::AnswerFormat& f = format(data[0]);
  const chat::AnswerOptions options{.thinking_open = (data[1] & 1) != 0, .tools = (data[1] & 2) == 0};
  std::string answer;
  for (std::size_t i = 2; i < size; ++i)
    answer += data[i] < 0x80 ? std::string(1, static_cast<char>(data[i])) : kMarkers[data[i] % kMarkers.size()];
  const chat::Symbols symbols = f.alphabet.marker(answer);
  chat::AnswerParser whole(f, options), pieces(f, options);
  chat::Events expected, events;
  append(expected, whole.push(symbols));
  append(expected, whole.finish());
  for (std::size_t i = 0; i < symbols.size();) {
    const std::size_t length = 1 + data[i % size] % 3;
    append(events, pieces.push(chat::SymbolView(symbols).substr(i, length)));
    i += length;
  }
  append(events, pieces.finish());
  if (!(events == expected)) __builtin_trap();
  return 0;
}
