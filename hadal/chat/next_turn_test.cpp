#include "hadal/chat/next_turn.h"

#include <gtest/gtest.h>

#include "hadal/io/json.h"

namespace hadal::chat {
namespace next_turn_test {
namespace {

using io::Json;
using tokenizer::TokenId;

const tokenizer::Tokenizer& v3_tokenizer() {
  static const auto made = tokenizer::Tokenizer::load(HADAL_TEST_DATA "/tokenizer/deepseek-v3");
  return made;
}

tokenizer::ChatTemplate published(const std::string& name) {
  const auto& config = v3_tokenizer().config();
  return {io::read_text_file(HADAL_TEST_DATA "/chat/templates/" + name), config.bos_token, config.eos_token, name};
}

constexpr const char* kTemplates[] = {"deepseek-v2-lite.jinja",  "deepseek-v3.jinja",     "deepseek-r1.jinja",
                                      "deepseek-r1-tools.jinja", "deepseek-v3.1.jinja",   "moonlight.jinja",
                                      "kimi-k2.jinja",           "kimi-k2-thinking.jinja"};

const Json kQuestion = {{{"role", "system"}, {"content", "Be brief."}}, {{"role", "user"}, {"content", "Weather?"}}};

struct Turn {
  std::vector<TokenId> known, prompt;
  std::ptrdiff_t common() const {
    return std::mismatch(known.begin(), known.end(), prompt.begin(), prompt.end()).first - known.begin();
  }
};

// What is said to be known of the next turn, and the prompt that it turns out to be.
Turn next(const std::string& name, const Json& messages, const Json& answer, const Json& behind,
          const Json& variables) {
  const auto chat = published(name);
  tokenizer::RenderOptions render{.add_generation_prompt = true, .variables = variables};
  Json all = messages;
  all.push_back(answer);
  for (const Json& m : behind) all.push_back(m);
  return {next_turn(v3_tokenizer(), chat, messages, Json(), render, answer),
          v3_tokenizer().encode(chat.render(all, Json(), render))};
}

TEST(NextTurn, BeginsWithTheAnswerAsEveryTemplateWritesIt) {
  Json answer = {{"role", "assistant"}, {"content", "It rains. 雨。"}};
  for (const char* name : kTemplates)
    for (const bool thought : {false, true})
      for (const char* text : {"And tomorrow?", " 1", "<｜User｜>", "\n\nW"}) {
        answer.erase("reasoning_content");
        if (thought) answer["reasoning_content"] = "Hm.\n\nClouds.";
        const Turn t = next(name, kQuestion, answer, {{{"role", "user"}, {"content", text}}}, {{"thinking", thought}});
        const std::string known = v3_tokenizer().decode(t.known);
        EXPECT_NE(known.find("It rains. 雨。"), std::string::npos) << name;
        // What comes next may share a token with the template's last character.
        EXPECT_GE(t.common() + 2, std::ssize(t.known)) << name << ": " << known;
        if (std::string(name) == "deepseek-r1.jinja") {
          EXPECT_EQ(known.find("Clouds"), std::string::npos);
        }
      }
}

TEST(NextTurn, IsTheResultsOfCalls) {
  Json answer = {{"role", "assistant"}, {"content", nullptr}, {"reasoning_content", "Hm."}};
  for (const char* id : {"functions.weather:0", "functions.weather:1"})
    answer["tool_calls"].push_back(
        {{"id", id}, {"type", "function"}, {"function", {{"name", "weather"}, {"arguments", R"({"city": "Oslo"})"}}}});
  Json results;
  for (const Json& call : answer["tool_calls"])
    results.push_back({{"role", "tool"}, {"tool_call_id", call["id"]}, {"content", "rain"}});
  for (const char* name :
       {"deepseek-v3.jinja", "deepseek-r1-tools.jinja", "deepseek-v3.1.jinja", "kimi-k2-thinking.jinja"}) {
    const Turn t = next(name, kQuestion, answer, results, Json::object());
    EXPECT_EQ(t.common(), std::ssize(t.known)) << name;
    const std::string known = v3_tokenizer().decode(t.known);
    EXPECT_NE(known.find("Oslo"), known.rfind("Oslo")) << name << ": both calls are known: " << known;
  }
}

TEST(NextTurn, JoinsWhatWasToBeContinued) {
  const auto chat = published("deepseek-v3.jinja");
  Json messages = kQuestion;
  messages.push_back({{"role", "assistant"}, {"content", "It "}, {"prefix", true}});
  const auto known = next_turn(v3_tokenizer(), chat, messages, Json(), {.continue_final_message = true},
                               {{"role", "assistant"}, {"content", "rains."}});
  const Json whole = {{"role", "assistant"}, {"content", "It rains."}};
  EXPECT_EQ(known, next("deepseek-v3.jinja", kQuestion, whole, Json::array(), Json::object()).known);
  messages.back()["content"] = {{{"type", "text"}, {"text", "It "}}};
  EXPECT_TRUE(next_turn(v3_tokenizer(), chat, messages, Json(), {.continue_final_message = true}, whole).empty());
}

TEST(NextTurn, ATemplateThatRefusesItIsNoError) {
  const tokenizer::ChatTemplate chat("{{ raise_exception('one turn only') if messages|length > 1 else 'Q' }}", "", "",
                                     "refuses");
  EXPECT_TRUE(next_turn(v3_tokenizer(), chat, {{{"role", "user"}, {"content", "Q"}}}, Json(), {},
                        {{"role", "assistant"}, {"content", "A"}})
                  .empty());
}

}  // namespace
}  // namespace next_turn_test
}  // namespace hadal::chat
