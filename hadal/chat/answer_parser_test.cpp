#include "hadal/chat/answer_parser.h"

#include <gtest/gtest.h>

#include <random>

namespace hadal::chat {

static void PrintTo(const Event& e, std::ostream* out) {
  *out << static_cast<int>(e.kind) << " " << e.call << " " << e.id << " " << e.name << " "
       << testing::PrintToString(e.text);
}

namespace answer_parser_test {
namespace {

using Kind = Event::Kind;

// Markers as tokens; `special` ones are hidden in text.
tokenizer::AddedTokens all_tokens() {
  std::vector<tokenizer::AddedToken> tokens;
  tokenizer::TokenId id = 1000;
  for (const char* text :
       {"<think>", "</think>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>",
        "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>", "｜DSML｜", "<｜User｜>"})
    tokens.push_back({id++, text});
  tokens.push_back({id++, "<｜end▁of▁sentence｜>"});
  tokens.back().special = true;
  return tokenizer::AddedTokens(tokens);
}

AnswerFormat& format(const std::string& family, bool tokens = true) {
  static std::map<std::pair<std::string, bool>, std::unique_ptr<AnswerFormat>> made;
  auto& out = made[{family, tokens}];
  if (!out)
    out = std::make_unique<AnswerFormat>(tokens ? all_tokens() : tokenizer::AddedTokens(),
                                         markup_of_family(family, true));
  return *out;
}

void append(Events& all, Events more) {
  for (Event& e : more)
    if (!all.empty() && all.back().kind == e.kind && all.back().call == e.call && !e.text.empty())
      all.back().text += e.text;
    else
      all.push_back(std::move(e));
}

Events parse(const AnswerFormat& f, SymbolView symbols, const std::vector<std::size_t>& cuts, AnswerOptions options) {
  AnswerParser parser(f, std::move(options));
  Events all;
  std::size_t begin = 0;
  for (const std::size_t cut : cuts) {
    append(all, parser.push(symbols.substr(begin, cut - begin)));
    begin = cut;
  }
  append(all, parser.push(symbols.substr(begin)));
  append(all, parser.finish());
  return all;
}

// In whatever pieces, the events are those of the whole.
Events parse_all_cuts(const AnswerFormat& f, const Symbols& symbols, const AnswerOptions& options) {
  const Events whole = parse(f, symbols, {}, options);
  std::vector<std::size_t> each;
  for (std::size_t i = 1; i < symbols.size(); ++i) {
    EXPECT_EQ(parse(f, symbols, {i}, options), whole) << "cut at " << i << " of " << f.alphabet.shown(symbols);
    each.push_back(i);
  }
  EXPECT_EQ(parse(f, symbols, each, options), whole) << "symbol by symbol: " << f.alphabet.shown(symbols);
  return whole;
}

Event reasoning(std::string text) {
  return {Kind::kReasoning, std::move(text)};
}
Event content(std::string text) {
  return {Kind::kContent, std::move(text)};
}
Events call(int index, std::string name, std::string arguments, std::string id = "") {
  if (id.empty()) id = "call_" + std::to_string(index);
  return {{Kind::kToolBegin, "", index, std::move(id), std::move(name)},
          {Kind::kToolArguments, std::move(arguments), index},
          {Kind::kToolEnd, "", index}};
}
Events operator+(Events a, const Events& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const AnswerOptions kTools{.tools = true}, kThinking{.thinking_open = true, .tools = true};

// With the markers as tokens and as text: the same events.
void expect_events(const std::string& family, const std::string& answer, const Events& expected,
                   const AnswerOptions& options = kTools) {
  for (const bool tokens : {true, false}) {
    const AnswerFormat& f = format(family, tokens);
    EXPECT_EQ(parse_all_cuts(f, f.alphabet.marker(answer), options), expected)
        << family << (tokens ? ", tokens: " : ", text: ") << answer;
  }
}

constexpr const char* kV3Calls =
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": "
    "\"巴黎\"}\n```<｜tool▁call▁end｜>\n"
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{\"a\": "
    "\"```\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
constexpr const char* kV31Calls =
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"巴黎\"}<｜tool▁call▁end｜>"
    "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{\"a\": \"```\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
constexpr const char* kKimiCalls =
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"city\": "
    "\"巴黎\"}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{\"a\": "
    "\"```\"}<|tool_call_end|><|tool_calls_section_end|>";
constexpr const char* kDsmlCalls =
    "\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "
    "string=\"true\">巴黎</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"now\">\n<｜DSML｜parameter "
    "name=\"a\" string=\"true\">```</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>";

TEST(AnswerParser, SeveralCallsOfEachStyle) {
  const Events two = call(0, "get_weather", R"({"city": "巴黎"})") + call(1, "now", R"({"a": "```"})");
  const Events with_text = Events{content("Let me see.")} + two;
  for (const char* family : {"deepseek-v3", "deepseek-r1"}) {
    expect_events(family, kV3Calls, two);
    expect_events(family, std::string("Let me see.") + kV3Calls, with_text);
  }
  expect_events("deepseek-v3.1", kV31Calls, two);
  expect_events("deepseek-v3.1", std::string("Let me see.") + kV31Calls, with_text);
  expect_events("deepseek-v3.2", kDsmlCalls, two);
  expect_events("deepseek-v3.2", std::string("Let me see.") + kDsmlCalls, with_text);
  const Events kimi = call(0, "get_weather", R"({"city": "巴黎"})", "functions.get_weather:0") +
                      call(1, "now", R"({"a": "```"})", "functions.now:1");
  expect_events("kimi-k2", kKimiCalls, kimi);
  expect_events("kimi-k2", std::string("Let me see.") + kKimiCalls, Events{content("Let me see.")} + kimi);
}

TEST(AnswerParser, ParametersOfDsmlBecomeJson) {
  const auto answer = [](const std::string& parameters) {
    return "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n" + parameters +
           "</｜DSML｜invoke>\n</｜DSML｜function_calls>";
  };
  const auto parameter = [](const std::string& name, const char* kind, const std::string& value) {
    return "<｜DSML｜parameter name=\"" + name + "\" string=\"" + kind + "\">" + value + "</｜DSML｜parameter>\n";
  };
  expect_events("deepseek-v3.2", answer(""), call(0, "f", "{}"));
  expect_events("deepseek-v3.2",
                answer(parameter("a", "true", "x \"y\"\n</b>\\") + parameter("b", "false", "[1, {\"c\": null}]")),
                call(0, "f", R"({"a": "x \"y\"\n</b>\\", "b": [1, {"c": null}]})"));
  expect_events("deepseek-v3.2", answer(parameter("a", "false", "no json")), call(0, "f", R"({"a": "no json"})"));
  expect_events("deepseek-v3.2", answer(parameter("a", "perhaps", "1")),
                Events{{Kind::kToolBegin, "", 0, "call_0", "f"},
                       {Kind::kToolArguments, "{", 0},
                       content("<｜DSML｜parameter name=\"a\" string=\"perhaps\">1</｜DSML｜parameter>"),
                       {Kind::kToolArguments, "}", 0},
                       {Kind::kToolEnd, "", 0}});
}

TEST(AnswerParser, CallsAreTakenAsModelsReallyWriteThem) {
  const std::string begin = "<｜tool▁calls▁begin｜>", one = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n",
                    end = "<｜tool▁call▁end｜>", all = "<｜tool▁calls▁end｜>";
  const Events f = call(0, "f", "{\"a\": 1}");
  expect_events("deepseek-v3", begin + one + "{\"a\": 1}" + end + all, f);
  expect_events("deepseek-v3", begin + one + "```json\n{\"a\": 1}\n```\n" + end + all, f);
  expect_events("deepseek-v3", begin + one + "```\n{\"a\": 1}```" + end + "\n" + all, f);
  expect_events("deepseek-v3", one + "```json\n{\"a\": 1}\n```" + end, f);
  expect_events("deepseek-v3", begin + one + "```json\n{\"a\": 1}\n```" + all, call(0, "f", "{\"a\": 1}\n```"));
  expect_events("deepseek-v3", begin + one + "```json\n{\"a\": 1}\n```", f);
  expect_events("deepseek-v3", begin + one + "```json\n\n```" + end + all, call(0, "f", "{}"));
  expect_events("deepseek-v3", begin + one + "```json\n{\"a\": 1", call(0, "f", "{\"a\": 1"));
  expect_events("deepseek-v3", begin + one + "```json\n{\"a\": 1}\n```" + end + all + "Done.",
                f + Events{content("Done.")});
  expect_events("kimi-k2", "<|tool_call_begin|> f <|tool_call_argument_begin|><|tool_call_end|>",
                call(0, "f", "{}", "f"));
}

TEST(AnswerParser, WhatIsNoCallIsContentAndNothingIsLost) {
  const std::vector<std::pair<std::string, std::string>> answers = {
      {"deepseek-v3", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>"},
      {"deepseek-v3", "a<｜tool▁calls▁begin｜>"},
      {"deepseek-v3", "<｜tool▁calls▁begin｜> text <｜tool▁calls▁end｜> more"},
      {"deepseek-v3", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function"},
      {"deepseek-v3",
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function\nname<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
      {"deepseek-v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>  \n```json\n{}\n```<｜tool▁call▁end｜>"},
      {"deepseek-v3",
       "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + std::string(600, 'n') + "\n{}<｜tool▁call▁end｜>"},
      {"deepseek-v3", "<｜tool▁call▁end｜> a <｜tool▁sep｜> b <｜tool▁calls▁end｜>"},
      {"deepseek-v3.1", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜><｜tool▁sep｜>{}<｜tool▁call▁end｜>"},
      {"deepseek-v3.1", "<｜tool▁call▁begin｜>f{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
      {"kimi-k2", "<|tool_calls_section_begin|><|tool_call_begin|>functions.:0<|tool_call_argument_begin|>{}"},
      {"kimi-k2", "<|tool_call_begin|>f<|tool_call_end|>"},
      {"deepseek-v3.2", "\n\n<｜DSML"},
      {"deepseek-v3.2", "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"\">\n</｜DSML｜invoke>"},
      {"deepseek-v3.2", "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\n"},
      {"deepseek-v3.2", "a < b </｜DSML｜function_calls>"},
      {"other", kV3Calls},
  };
  for (const auto& [family, answer] : answers) expect_events(family, answer, {content(answer)});
  expect_events(
      "deepseek-v3.1",
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>bad<｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
      Events{content("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>bad")} + call(0, "f", "{}"));
}

TEST(AnswerParser, WithoutToolsTheirMarkupIsText) {
  for (const bool tokens : {true, false}) {
    const AnswerFormat& f = format("deepseek-v3", tokens);
    EXPECT_EQ(parse_all_cuts(f, f.alphabet.marker(kV3Calls), {}), (Events{content(kV3Calls)}));
  }
}

TEST(AnswerParser, MarkersThatAreTokensAreNotTakenFromText) {
  const AnswerFormat& f = format("deepseek-v3.1");
  const std::string said = std::string("Write </think> or <think> or ") + kV31Calls;
  EXPECT_EQ(parse_all_cuts(f, Alphabet::text(said), kTools), (Events{content(said)}));
  EXPECT_EQ(parse_all_cuts(f, Alphabet::text(said) + f.end_think + U"!", kThinking),
            (Events{reasoning(said), content("!")}));
}

TEST(AnswerParser, ThoughtsAreSplitByTheRulesOfTheModel) {
  // R1 stands in its thought from the prompt on; the line breaks beside the tag are markup.
  expect_events("deepseek-r1", "Hm.\n</think>\n\n42", {reasoning("Hm."), content("42")}, kThinking);
  expect_events("deepseek-r1", "\n\n</think>\n\n42", {content("42")}, kThinking);
  expect_events("deepseek-r1", "Hm", {reasoning("Hm")}, kThinking);
  expect_events("deepseek-r1", "<think>\nHm.\n</think>\n\n42", {reasoning("Hm."), content("42")});
  expect_events("deepseek-r1", "42 <think>", {content("42 <think>")});
  expect_events("deepseek-r1", " \n42", {content(" \n42")});
  expect_events("deepseek-r1", "<thinking>", {content("<thinking>")});
  // V3.1 and V3.2 have nothing between.
  expect_events("deepseek-v3.1", "Hm.\n</think>\n42", {reasoning("Hm.\n"), content("\n42")}, kThinking);
  expect_events("deepseek-v3.1", "42", {content("42")});
  expect_events(
      "deepseek-v3.1", std::string("Hm.</think>") + kV31Calls,
      Events{reasoning("Hm.")} + call(0, "get_weather", R"({"city": "巴黎"})") + call(1, "now", R"({"a": "```"})"),
      kThinking);
  const AnswerFormat& f = format("deepseek-v3.1");
  EXPECT_EQ(parse_all_cuts(f, f.alphabet.marker(std::string("Hm.") + kV31Calls), kThinking).size(), 7u)
      << "a call ends a thought that was not closed";
}

TEST(AnswerParser, SpecialTokensAreNotShown) {
  const AnswerFormat& f = format("deepseek-v3");
  EXPECT_EQ(parse_all_cuts(f, f.alphabet.marker("a<｜end▁of▁sentence｜>b<｜User｜>"), kTools),
            (Events{content("ab<｜User｜>")}));
}

// Anything made of the pieces of markup: the same events however it is cut, and every letter of text comes out.
TEST(AnswerParser, AnyAnswerInAnyPieces) {
  std::mt19937 random(7);
  const std::vector<std::string> pieces = {"<think>",
                                           "</think>",
                                           "\n",
                                           "\n\n",
                                           " ",
                                           "@",
                                           "{\"b\": 1}",
                                           "```",
                                           "```json\n",
                                           "\n```",
                                           "function",
                                           "c\n",
                                           "<",
                                           "</",
                                           "\">",
                                           "<｜tool▁calls▁begin｜>",
                                           "<｜tool▁calls▁end｜>",
                                           "<｜tool▁call▁begin｜>",
                                           "<｜tool▁sep｜>",
                                           "<｜tool▁call▁end｜>",
                                           "<|tool_calls_section_begin|>",
                                           "<|tool_calls_section_end|>",
                                           "<|tool_call_begin|>",
                                           "functions.d:12",
                                           "<|tool_call_argument_begin|>",
                                           "<|tool_call_end|>",
                                           "<｜DSML｜function_calls>",
                                           "</｜DSML｜function_calls>",
                                           "<｜DSML｜invoke name=\"e\">",
                                           "</｜DSML｜invoke>",
                                           "<｜DSML｜parameter name=\"f\" string=\"true\">",
                                           "<｜DSML｜parameter name=\"g\" string=\"false\">",
                                           "</｜DSML｜parameter>"};
  for (int i = 0; i < 3000; ++i) {
    const char* families[] = {"deepseek-v3", "deepseek-r1", "deepseek-v3.1", "deepseek-v3.2", "kimi-k2", "other"};
    const AnswerFormat& f = format(families[random() % 6], random() % 2);
    std::string answer;
    for (std::size_t n = random() % 24; n > 0; --n) answer += pieces[random() % pieces.size()];
    const AnswerOptions options{.thinking_open = random() % 2 == 0, .tools = random() % 4 != 0};
    const Symbols symbols = f.alphabet.marker(answer);
    const Events whole = parse(f, symbols, {}, options);
    std::vector<std::size_t> some, each;
    for (std::size_t at = 1; at < symbols.size(); ++at) {
      each.push_back(at);
      if (random() % 3 == 0) some.push_back(at);
    }
    ASSERT_EQ(parse(f, symbols, each, options), whole) << answer;
    ASSERT_EQ(parse(f, symbols, some, options), whole) << answer;
    // The type of a V3 call is the one text that is left out.
    if (f.markup.tools == ToolStyle::kV3) continue;
    std::string said;
    for (const Event& e : whole) said += e.text + (e.kind == Kind::kToolBegin ? e.id.size() > 9 ? e.id : e.name : "");
    const auto count = [](const std::string& text) { return std::count(text.begin(), text.end(), '@'); };
    ASSERT_EQ(count(said), count(answer)) << answer << "\n" << said;
  }
}

}  // namespace
}  // namespace answer_parser_test
}  // namespace hadal::chat
