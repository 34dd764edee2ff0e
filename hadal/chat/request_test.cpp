// What requests say about thoughts, tools and the form of their answers.
#include <gmock/gmock.h>

#include "hadal/chat/bad_parameter.h"
#include "hadal/chat/guided.h"
#include "hadal/chat/switches.h"
#include "hadal/chat/tools.h"
#include "hadal/io/json.h"

namespace hadal::chat {
namespace request_test {
namespace {

using io::Json;
using testing::HasSubstr;

template <class Read>
std::string refused(const Read& read, const char* request, std::string* sentence = nullptr) {
  try {
    read(Json::parse(request));
  } catch (const BadParameter& e) {
    if (sentence) *sentence = e.what();
    EXPECT_EQ(std::string(e.what()).substr(0, e.param.size() + 2), e.param + ": ");
    return e.param;
  }
  return "taken";
}

tokenizer::ChatTemplate thinking_template() {
  return {"{% if thinking %}<think>{% endif %}", "", "", "made"};
}

std::string enabled(const char* request) {
  const ThinkingSwitches s = read_switches(Json::parse(request), thinking_template());
  const std::string said = s.enabled ? *s.enabled ? "on" : "off" : "unset";
  EXPECT_EQ(s.variables.value("thinking", Json()), s.enabled ? Json(*s.enabled) : Json()) << request;
  return said;
}

TEST(Switches, EverySpellingOfThinking) {
  EXPECT_EQ(enabled("{}"), "unset");
  EXPECT_EQ(enabled(R"({"chat_template_kwargs": {"thinking": true}})"), "on");
  EXPECT_EQ(enabled(R"({"chat_template_kwargs": {"enable_thinking": false}})"), "off");
  EXPECT_EQ(enabled(R"({"thinking": {"type": "enabled"}})"), "on");
  EXPECT_EQ(enabled(R"({"thinking": {"type": "disabled"}})"), "off");
  EXPECT_EQ(enabled(R"({"enable_thinking": true})"), "on");
  EXPECT_EQ(enabled(R"({"reasoning_effort": "high"})"), "on");
  EXPECT_EQ(enabled(R"({"reasoning_effort": "none"})"), "off");
  EXPECT_EQ(enabled(R"({"reasoning_effort": null, "thinking": null})"), "unset");
  EXPECT_EQ(enabled(R"({"reasoning_effort": "high", "chat_template_kwargs": {"thinking": false}})"), "off");
  EXPECT_EQ(enabled(R"({"reasoning_effort": "low", "thinking": {"type": "disabled"}})"), "off");
}

TEST(Switches, OnlyWhatTheTemplateKnowsIsSet) {
  const ThinkingSwitches s = read_switches(
      Json::parse(R"({"enable_thinking": true, "chat_template_kwargs": {"style": "short"}})"), thinking_template());
  EXPECT_EQ(s.variables, Json::parse(R"({"style": "short", "thinking": true})"));
}

TEST(Switches, ABudgetAndModelsThatAlwaysThink) {
  const auto read = [](const char* r) { return read_switches(Json::parse(r), thinking_template()); };
  EXPECT_EQ(read(R"({"thinking_budget": 100})").budget_of(true), 100u);
  EXPECT_EQ(read(R"({"thinking_budget": 100})").budget_of(false), std::nullopt);
  EXPECT_EQ(read(R"({"thinking": {"type": "enabled", "budget_tokens": 7}})").budget_of(true), 7u);
  EXPECT_EQ(read(R"({"thinking": {"type": "disabled"}, "thinking_budget": 7})").budget_of(true), 0u);
  EXPECT_EQ(read("{}").budget_of(true), std::nullopt);
}

TEST(Switches, FaultsNameTheField) {
  const auto read = [](const Json& r) { read_switches(r, thinking_template()); };
  EXPECT_EQ(refused(read, R"({"thinking": {"type": "on"}})"), "thinking");
  EXPECT_EQ(refused(read, R"({"reasoning_effort": "extreme"})"), "reasoning_effort");
  EXPECT_EQ(refused(read, R"({"thinking_budget": -1})"), "thinking_budget");
  EXPECT_EQ(refused(read, R"({"thinking": {"type": "enabled", "budget_tokens": "many"}})"), "thinking.budget_tokens");
  EXPECT_EQ(refused(read, R"({"chat_template_kwargs": [1]})"), "chat_template_kwargs");
  EXPECT_EQ(refused(read, R"({"chat_template_kwargs": {"thinking": 1}})"), "chat_template_kwargs.thinking");
  EXPECT_EQ(refused(read, R"({"enable_thinking": "yes"})"), "enable_thinking");
}

using Kind = grammar::GrammarText::Kind;

void expect_guided(const char* request, Kind kind, const std::string& text) {
  const auto out = read_guided(Json::parse(request));
  ASSERT_TRUE(out) << request;
  EXPECT_EQ(out->grammar.kind, kind) << request;
  EXPECT_EQ(out->grammar.text, text) << request;
}

TEST(Guided, EverySpelling) {
  EXPECT_FALSE(read_guided(Json::parse(R"({"response_format": {"type": "text"}, "guided_json": null})")));
  const std::string schema = R"({"type":"integer"})";
  expect_guided(R"({"response_format": {"type": "json_object"}})", Kind::kJsonSchema, R"({"type":"object"})");
  expect_guided(R"({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true,
                    "schema": {"type": "integer"}}}})",
                Kind::kJsonSchema, schema);
  expect_guided(R"({"guided_json": {"type": "integer"}})", Kind::kJsonSchema, schema);
  expect_guided(R"({"guided_json": "{\"type\":\"integer\"}"})", Kind::kJsonSchema, schema);
  expect_guided(R"({"guided_regex": "a+"})", Kind::kRegex, "a+");
  expect_guided(R"({"guided_choice": ["a", "b\""]})", Kind::kLark, R"(start: "a" | "b\"")");
  expect_guided(R"({"guided_grammar": "start: \"a\""})", Kind::kLark, "start: \"a\"");
  expect_guided(R"({"structured_outputs": {"json": {"type": "integer"}}})", Kind::kJsonSchema, schema);
  expect_guided(R"({"structured_outputs": {"regex": "a+", "json": null, "json_object": false}})", Kind::kRegex, "a+");
  expect_guided(R"({"structured_outputs": {"choice": ["a"]}})", Kind::kLark, R"(start: "a")");
  expect_guided(R"({"structured_outputs": {"grammar": "start: \"a\""}})", Kind::kLark, "start: \"a\"");
  expect_guided(R"({"structured_outputs": {"json_object": true}})", Kind::kJsonSchema, R"({"type":"object"})");
}

TEST(Guided, FaultsNameTheField) {
  const auto read = [](const Json& r) { read_guided(r); };
  std::string sentence;
  EXPECT_EQ(refused(read, R"({"response_format": "json"})"), "response_format");
  EXPECT_EQ(refused(read, R"({"response_format": {"type": "xml"}})", &sentence), "response_format.type");
  EXPECT_THAT(sentence, HasSubstr("\"xml\" is not one of"));
  EXPECT_EQ(refused(read, R"({"response_format": {"type": "json_schema"}})"), "response_format.json_schema");
  EXPECT_EQ(refused(read, R"({"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}})"),
            "response_format.json_schema.schema");
  EXPECT_EQ(refused(read, R"({"guided_choice": []})"), "guided_choice");
  EXPECT_EQ(refused(read, R"({"guided_choice": ["a", 1]})"), "guided_choice[1]");
  EXPECT_EQ(refused(read, R"({"guided_regex": 1})"), "guided_regex");
  EXPECT_EQ(refused(read, R"({"guided_grammar": "root ::= \"a\""})"), "guided_grammar");
  EXPECT_EQ(refused(read, R"({"structured_outputs": []})"), "structured_outputs");
  const std::string tag = "structured_outputs.structural_tag";
  EXPECT_EQ(refused(read, R"({"structured_outputs": {"structural_tag": {}}})"), tag + ".structures");
  EXPECT_EQ(refused(read, R"({"structured_outputs": {"structural_tag": "{"}})"), tag);
  EXPECT_EQ(refused(read, R"({"structured_outputs": {"structural_tag": {"format": {"type": "any_text"}}}})"),
            tag + ".format");
  EXPECT_EQ(refused(read, R"({"structured_outputs": {"structural_tag": {"structures": [{"begin": "<a>", "schema": {},
            "end": "</a>"}], "triggers": ["<b"]}}})"),
            tag + ".structures[0].begin");
  EXPECT_EQ(refused(read, R"({"response_format": {"type": "structural_tag", "structures": [{"begin": "<a>"}],
            "triggers": ["<"]}})"),
            "response_format.structures[0].schema");
  EXPECT_EQ(refused(read, R"({"guided_regex": "a", "response_format": {"type": "json_object"}})", &sentence),
            "guided_regex");
  EXPECT_THAT(sentence, HasSubstr("response_format"));
}

constexpr const char* kTools =
    R"("tools": [{"type": "function", "function": {"name": "f", "strict": true, "parameters": {"type": "object"}}},
                 {"type": "function", "function": {"name": "g-2"}}])";

ToolRequest tools_with(const std::string& more) {
  return read_tools(Json::parse("{" + std::string(kTools) + more + "}"));
}

TEST(Tools, AreReadWithTheChoice) {
  const ToolRequest out = tools_with("");
  ASSERT_EQ(out.tools.size(), 2u);
  EXPECT_EQ(out.tools[0].name, "f");
  EXPECT_TRUE(out.tools[0].strict);
  EXPECT_EQ(out.tools[1].parameters, R"({"type":"object"})");
  EXPECT_FALSE(out.tools[1].strict);
  EXPECT_EQ(out.choice, ToolChoice::kAuto);
  EXPECT_TRUE(out.parallel);
  EXPECT_EQ(tools_with(R"(, "tool_choice": "none")").choice, ToolChoice::kNone);
  EXPECT_EQ(tools_with(R"(, "tool_choice": "required", "parallel_tool_calls": false)").choice, ToolChoice::kRequired);
  EXPECT_FALSE(tools_with(R"(, "parallel_tool_calls": false)").parallel);
  const ToolRequest named = tools_with(R"(, "tool_choice": {"type": "function", "function": {"name": "g-2"}})");
  EXPECT_EQ(named.choice, ToolChoice::kNamed);
  EXPECT_EQ(named.named, "g-2");
  EXPECT_FALSE(read_tools(Json::parse(R"({"tools": [], "tool_choice": "auto"})")).may_call());
  EXPECT_FALSE(read_tools(Json::parse("{}")).may_call());
}

TEST(Tools, FaultsNameTheField) {
  const auto read = [](const Json& r) { read_tools(r); };
  EXPECT_EQ(refused(read, R"({"tools": {}})"), "tools");
  EXPECT_EQ(refused(read, R"({"tools": [1]})"), "tools[0]");
  EXPECT_EQ(refused(read, R"({"tools": [{"type": "search"}]})"), "tools[0].type");
  EXPECT_EQ(refused(read, R"({"tools": [{"type": "function"}]})"), "tools[0].function");
  EXPECT_EQ(refused(read, R"({"tools": [{"function": {"name": "a b"}}]})"), "tools[0].function.name");
  EXPECT_EQ(refused(read, R"({"tools": [{"function": {"name": "a", "parameters": 1}}]})"),
            "tools[0].function.parameters");
  EXPECT_EQ(refused(read, R"({"tools": [{"function": {"name": "a", "strict": 1}}]})"), "tools[0].function.strict");
  EXPECT_EQ(refused(read, R"({"tools": [{"function": {"name": "a"}}, {"function": {"name": "a"}}]})"),
            "tools[1].function.name");
  EXPECT_EQ(refused(read, R"({"tool_choice": "required"})"), "tool_choice");
  EXPECT_EQ(refused(read, R"({"tool_choice": "sometimes"})"), "tool_choice");
  EXPECT_EQ(refused(read, R"({"tools": [{"function": {"name": "a"}}],
                              "tool_choice": {"type": "function", "function": {"name": "b"}}})"),
            "tool_choice");
  EXPECT_EQ(refused(read, R"({"parallel_tool_calls": "no"})"), "parallel_tool_calls");
}

}  // namespace
}  // namespace request_test
}  // namespace hadal::chat
