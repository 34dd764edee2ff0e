// Answers as the models' own templates write them into a history, read back: the same message.
#include <gtest/gtest.h>

#include "hadal/chat/answer_reader.h"
#include "hadal/io/json.h"

namespace hadal::chat {
namespace round_trip_test {
namespace {

using io::Json;

const tokenizer::Tokenizer& v3_tokenizer() {
  static const auto made = tokenizer::Tokenizer::load(HADAL_TEST_DATA "/tokenizer/deepseek-v3");
  return made;
}

tokenizer::ChatTemplate published(const std::string& name) {
  const auto& config = v3_tokenizer().config();
  return {io::read_text_file(HADAL_TEST_DATA "/chat/templates/" + name), config.bos_token, config.eos_token, name};
}

Json message(const Json& content, const std::vector<std::pair<std::string, std::string>>& calls) {
  Json out = {{"role", "assistant"}, {"content", content}};
  for (const auto& [name, arguments] : calls)
    out["tool_calls"].push_back({{"id", "call_" + std::to_string(out.value("tool_calls", Json::array()).size())},
                                 {"type", "function"},
                                 {"function", {{"name", name}, {"arguments", arguments}}}});
  return out;
}

// What the template wrote behind `before`, up to the end of the turn.
std::string rendered_answer(const tokenizer::ChatTemplate& t, const Json& answer, const std::string& before) {
  const Json messages = {{{"role", "user"}, {"content", "Weather?"}}, answer};
  const std::string text = t.render(messages, Json()).text;
  const auto begin = text.rfind(before), end = text.rfind("<｜end▁of▁sentence｜>");
  EXPECT_TRUE(begin != std::string::npos && end != std::string::npos && begin < end) << text;
  return text.substr(begin + before.size(), end - begin - before.size());
}

Json read_back(const tokenizer::Tokenizer& tokenizer, const AnswerFormat& format, const std::string& answer) {
  AnswerReader reader(tokenizer, format, {.tools = true});
  Events events;
  for (const tokenizer::TokenId id : tokenizer.encode(answer))
    for (Event& e : reader.push(id)) events.push_back(std::move(e));
  for (Event& e : reader.finish()) events.push_back(std::move(e));
  std::string content;
  std::vector<std::pair<std::string, std::string>> calls;
  for (const Event& e : events) {
    if (e.kind == Event::Kind::kContent) content += e.text;
    if (e.kind == Event::Kind::kToolBegin) calls.emplace_back(e.name, "");
    if (e.kind == Event::Kind::kToolArguments) calls.back().second += e.text;
  }
  return message(content.empty() ? Json() : Json(content), calls);
}

const std::vector<std::pair<std::string, std::string>> kOne = {{"get_weather", R"({"city": "巴黎", "n": [1, 2]})"}};
const std::vector<std::pair<std::string, std::string>> kTwo = {{"get_weather", R"({"city": "</think> ``` <b>"})"},
                                                               {"now", "{}"}};

TEST(RoundTrip, CallsInTheTemplatesOfV3R1AndV31) {
  const struct {
    const char* name;
    const char* before;
    bool with_text;
  } templates[] = {{"deepseek-v3.jinja", "<｜Assistant｜>", true},
                   {"deepseek-r1.jinja", "<｜Assistant｜>", false},  // writes text behind the calls, as another turn
                   {"deepseek-v3.1.jinja", "<｜Assistant｜></think>", true}};
  for (const auto& [name, before, with_text] : templates) {
    const auto t = published(name);
    const AnswerFormat format(v3_tokenizer().added_tokens(), markup_of(&t, v3_tokenizer()));
    for (const auto& calls : {kOne, kTwo})
      for (const Json& content : {Json(), Json("Let me look.\n")}) {
        if (!content.is_null() && !with_text) continue;
        const Json given = message(content, calls);
        EXPECT_EQ(read_back(v3_tokenizer(), format, rendered_answer(t, given, before)), given) << name;
      }
    const Json text = message("Just <b>text</b>.", {});
    EXPECT_EQ(read_back(v3_tokenizer(), format, rendered_answer(t, text, before)), text) << name;
  }
}

// K2-Thinking: calls by their ids, and the thought word for word.
TEST(RoundTrip, ThoughtAndCallsInTheTemplateOfKimi) {
  const auto t = published("kimi-k2-thinking.jinja");
  const AnswerFormat format(v3_tokenizer().added_tokens(), markup_of(&t, v3_tokenizer()));
  ASSERT_EQ(format.markup.tools, ToolStyle::kKimi);
  Json answer = message("Let me look.", kTwo);
  answer["reasoning_content"] = "Hm.\n\nWell.\n";
  answer["tool_calls"][0]["id"] = "functions.get_weather:3";
  answer["tool_calls"][1]["id"] = "functions.now:4";
  const std::string text = t.render({{{"role", "user"}, {"content", "Weather?"}}, answer}, Json()).text,
                    before = "assistant<|im_middle|>";
  const auto begin = text.rfind(before) + before.size();
  AnswerParser parser(format, {.tools = true});
  Events events = parser.push(format.alphabet.marker(text.substr(begin, text.rfind("<|im_end|>") - begin)));
  for (Event& e : parser.finish()) events.push_back(std::move(e));
  using Kind = Event::Kind;
  EXPECT_EQ(events, (Events{{Kind::kReasoning, "Hm.\n\nWell.\n"},
                            {Kind::kContent, "Let me look."},
                            {Kind::kToolBegin, "", 0, "functions.get_weather:3", "get_weather"},
                            {Kind::kToolArguments, kTwo[0].second, 0},
                            {Kind::kToolEnd, "", 0},
                            {Kind::kToolBegin, "", 1, "functions.now:4", "now"},
                            {Kind::kToolArguments, "{}", 1},
                            {Kind::kToolEnd, "", 1}}))
      << text;
}

TEST(RoundTrip, ThoughtsSentBackAreTaken) {
  const auto t = published("deepseek-r1.jinja");
  Json answer = message("4", {});
  answer["reasoning_content"] = "2 and 2";
  EXPECT_EQ(rendered_answer(t, answer, "<｜Assistant｜>"), "4") << "templates decide what becomes of them";
}

TEST(RoundTrip, ThePromptSaysWhetherAnAnswerBeginsInAThought) {
  const auto open = [](const std::string& name, const Json& variables, const Json& messages = Json(),
                       bool go_on = false) {
    tokenizer::RenderOptions options;
    options.add_generation_prompt = !go_on;
    options.continue_final_message = go_on;
    options.variables = variables;
    const Json question = Json::array({{{"role", "user"}, {"content", "<think> or </think>?"}}});
    return thinking_open(published(name).render(messages.is_null() ? question : messages, Json(), options));
  };
  EXPECT_TRUE(open("deepseek-r1.jinja", Json::object()));
  EXPECT_FALSE(open("deepseek-v3.jinja", Json::object()));
  EXPECT_FALSE(open("deepseek-v3.1.jinja", Json::object()));
  EXPECT_TRUE(open("deepseek-v3.1.jinja", {{"thinking", true}}));
  EXPECT_FALSE(open("deepseek-v3.1.jinja", {{"thinking", false}}));
  const auto begun = [](const char* text) {
    return Json::array({{{"role", "user"}, {"content", "Q"}}, {{"role", "assistant"}, {"content", text}}});
  };
  EXPECT_TRUE(open("deepseek-v3.jinja", Json::object(), begun("<think>\nWell"), true));
  EXPECT_FALSE(open("deepseek-v3.jinja", Json::object(), begun("The answer"), true));
}

TEST(RoundTrip, MarkupIsChosenByTheTemplate) {
  const auto style = [](const char* name) {
    const auto t = published(name);
    return markup_of(&t, v3_tokenizer()).tools;
  };
  EXPECT_EQ(style("deepseek-v3.jinja"), ToolStyle::kV3);
  EXPECT_EQ(style("deepseek-r1.jinja"), ToolStyle::kV3);
  EXPECT_EQ(style("deepseek-r1-tools.jinja"), ToolStyle::kV3);
  EXPECT_EQ(style("deepseek-v3.1.jinja"), ToolStyle::kV31);
  EXPECT_EQ(style("deepseek-v2-lite.jinja"), ToolStyle::kNone);
  EXPECT_EQ(markup_of(nullptr, v3_tokenizer()).tools, ToolStyle::kNone);
}

TEST(RoundTrip, CharactersAndStopStringsOverSeveralTokensNeverLeak) {
  const AnswerFormat format(v3_tokenizer().added_tokens(), markup_of_family("deepseek-v3", true));
  const std::string text = "🦆 ducks 𝔘𝔫𝔦 STOP and more";
  AnswerReader reader(v3_tokenizer(), format, {.tools = true}, {"STOP and"});
  std::string shown;
  for (const tokenizer::TokenId id : v3_tokenizer().encode(text)) {
    for (const Event& e : reader.push(id)) shown += e.text;
    EXPECT_EQ(text.substr(0, shown.size()), shown);
    EXPECT_LE(shown.size(), text.find("STOP"));
    if (reader.stopped()) break;
  }
  EXPECT_TRUE(reader.stopped());
  EXPECT_EQ(reader.found(), "STOP and");
  EXPECT_TRUE(reader.finish().empty());
  EXPECT_EQ(shown, text.substr(0, text.find("STOP")));
  // A character that is cut by a control token or by the end is replaced.
  AnswerReader cut(v3_tokenizer(), format, {});
  const auto duck = v3_tokenizer().encode("𝔘");
  ASSERT_GT(duck.size(), 1u);
  EXPECT_TRUE(cut.push(duck[0]).empty());
  EXPECT_EQ(cut.push(*v3_tokenizer().added_token("<｜User｜>")).back().text, "<｜User｜>");
}

}  // namespace
}  // namespace round_trip_test
}  // namespace hadal::chat
