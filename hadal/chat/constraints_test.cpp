#include "hadal/chat/constraints.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "hadal/chat/answer_reader.h"
#include "hadal/chat/bad_parameter.h"

namespace hadal::chat {
namespace constraints_test {
namespace {

using grammar::GrammarText;
using grammar::TokenConstraint;
using testing::HasSubstr;
using tokenizer::TokenId;
using Json = nlohmann::ordered_json;

constexpr TokenId kEos = 1, kEndThinkId = 128799, kCallsBegin = 128806, kCallBegin = 128808;

const tokenizer::Tokenizer& v3() {
  static const auto made = tokenizer::Tokenizer::load(HADAL_TEST_DATA "/tokenizer/deepseek-v3");
  return made;
}
const grammar::GrammarCompiler& compiler() {
  static const grammar::GrammarCompiler made = make_compiler(v3(), std::vector<TokenId>{kEos});
  return made;
}
const AnswerFormat& format(const std::string& family) {
  static std::map<std::string, std::unique_ptr<AnswerFormat>> made;
  auto& out = made[family];
  if (!out) out = std::make_unique<AnswerFormat>(v3().added_tokens(), markup_of_family(family, true));
  return *out;
}

constexpr const char* kWeather = R"({"type": "object", "properties": {
    "city": {"type": "string", "description": "Where"}, "days": {"type": "integer", "minimum": 1, "maximum": 9},
    "unit": {"enum": ["C", "F"]}}, "required": ["city", "days"], "additionalProperties": false})";

ToolRequest weather(ToolChoice choice = ToolChoice::kAuto) {
  return {{{"get_weather", kWeather, true}, {"now", R"({"type":"object"})", false}}, choice, "get_weather", true};
}

std::unique_ptr<TokenConstraint> constraint(const std::string& family, const ConstraintRequest& request) {
  return make_constraint(request, format(family), v3(), std::vector<TokenId>{kEos}, &compiler());
}

bool allows(TokenConstraint& c, TokenId token) {
  std::vector<std::uint32_t> allowed(4040, ~0u);
  return !c.mask(allowed) || (allowed[static_cast<std::size_t>(token / 32)] >> (token % 32) & 1) != 0;
}

// How much of the text (spelled markers are tokens) is taken; then "|" if the answer may end, "!" if it must.
std::string taken(TokenConstraint& c, const std::string& text) {
  std::string out;
  for (const TokenId id : v3().encode(text)) {
    if (c.complete() || !allows(c, id)) return out;
    c.accept(id);
    out += v3().token_bytes(id);
  }
  return out + (c.complete() ? "!" : allows(c, kEos) ? "|" : "");
}
std::string taken(const std::string& family, const ToolRequest& tools, const std::string& text) {
  return taken(*constraint(family, {.tools = tools}), text);
}

class Constraints : public testing::Test {
  void SetUp() override {
    if (!grammar::GrammarCompiler::available()) GTEST_SKIP() << "built without llguidance";
  }
};

// A call in each style, the arguments as given.
std::string one_call(const std::string& family, const std::string& name, const std::string& arguments) {
  if (family == "deepseek-v3.1")
    return "<｜tool▁call▁begin｜>" + name + "<｜tool▁sep｜>" + arguments + "<｜tool▁call▁end｜>";
  if (family == "kimi-k2")
    return "<|tool_call_begin|>functions." + name + ":0<|tool_call_argument_begin|>" + arguments + "<|tool_call_end|>";
  return "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + name + "\n```json\n" + arguments + "\n```<｜tool▁call▁end｜>";
}
std::string section(const std::string& family, const std::vector<std::string>& calls) {
  const ToolMarkers& m = tool_markers(markup_of_family(family, true).tools);
  std::string out = m.section_begin;
  for (std::size_t i = 0; i < calls.size(); ++i)
    (out += i && (family == "deepseek-v3" || family == "deepseek-r1") ? "\n" : "") += calls[i];
  return out + m.section_end;
}

TEST_F(Constraints, ArgumentsOfStrictToolsMatchTheirSchema) {
  const std::string good = R"({"city": "巴黎", "days": 3, "unit": "C"})";
  for (const std::string family : {"deepseek-v3", "deepseek-r1", "deepseek-v3.1", "kimi-k2"}) {
    const auto answer = [&](const std::string& arguments) {
      return section(family, {one_call(family, "get_weather", arguments)});
    };
    EXPECT_EQ(taken(family, weather(), answer(good)), answer(good) + "!") << family;
    EXPECT_EQ(taken(family, weather(), "Let me see: <b>" + answer(good)), "Let me see: <b>" + answer(good) + "!");
    const std::string two =
        section(family, {one_call(family, "now", R"({"any": [1]})"), one_call(family, "get_weather", good)});
    EXPECT_EQ(taken(family, weather(), two), two + "!") << family;
    for (const char* bad : {R"({"days": 3})", R"({"city": "x", "days": 10})", R"({"city": "x", "days": 3, "z": 1})",
                            R"({"city": 1})", "[]"}) {
      const std::string got = taken(family, weather(), answer(bad));
      EXPECT_LT(got.size(), answer(bad).size()) << family << bad << got;
    }
    const std::string unknown = section(family, {one_call(family, "other", "{}")});
    EXPECT_LT(taken(family, weather(), unknown).size(), unknown.size()) << family;
    EXPECT_EQ(taken(family, weather(), "No need."), "No need.|") << family;
  }
}

TEST_F(Constraints, StructuralTagsHoldWhatFollowsATrigger) {
  const auto made = [](const std::string& begin) {
    const Json tag = {{"structures",
                       {{{"begin", begin}, {"schema", Json::parse(kWeather)}, {"end", "</f>"}},
                        {{"begin", "<f=now>"}, {"schema", {{"type", "object"}}}, {"end", ""}}}},
                      {"triggers", {"<f="}}};
    const auto guided = read_guided({{"structured_outputs", {{"structural_tag", tag.dump()}}}});
    return constraint("deepseek-v3", {.guided = guided});
  };
  const std::string good = R"({"city": "Oslo", "days": 3})";
  for (const std::string& text :
       {std::string("No <f> here."), "a <f=weather>" + good + "</f> b", "<f=weather>" + good + "</f>",
        "<f=now>{}<f=weather>" + good + "</f><f=now>{\"x\": 1} < f=", std::string("<f")})
    EXPECT_EQ(taken(*made("<f=weather>"), text), text + "|");
  for (const std::string& text : {std::string("a <f=other>"), std::string("<f=weather>{\"city\": 1}</f>"),
                                  "<f=weather>" + good + " b", "x<f=weather>" + good + "</f> <f=y"}) {
    const std::string got = taken(*made("<f=weather>"), text);
    EXPECT_LT(got.size(), text.size()) << got;
    EXPECT_EQ(text.substr(0, got.size()), got) << "nor may it end there";
  }
  EXPECT_THROW(made("<f=<｜tool▁sep｜>"), BadParameter);
}

TEST_F(Constraints, ParametersOfDsmlMatchTheirSchema) {
  const auto answer = [](const std::string& parameters) {
    return "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n" + parameters +
           "</｜DSML｜invoke>\n</｜DSML｜function_calls>";
  };
  const auto parameter = [](const char* name, const char* kind, const char* value) {
    return std::string("<｜DSML｜parameter name=\"") + name + "\" string=\"" + kind + "\">" + value +
           "</｜DSML｜parameter>\n";
  };
  const std::string city = parameter("city", "true", "巴黎 </b>"), days = parameter("days", "false", "3");
  for (const std::string& good :
       {answer(city + days), "Text.\n\n" + answer(city + days + parameter("unit", "false", "\"C\""))})
    EXPECT_EQ(taken("deepseek-v3.2", weather(), good), good + "!");
  for (const std::string& bad :
       {answer(city), answer(days), answer(city + parameter("days", "false", "10")),
        answer(city + days + parameter("unit", "false", "\"K\"")), answer(city + days + parameter("z", "true", ""))})
    EXPECT_LT(taken("deepseek-v3.2", weather(), bad).size(), bad.size()) << bad;
  EXPECT_EQ(taken("deepseek-v3.2", weather(), "a < b"), "a < b|");
}

TEST_F(Constraints, TheChoiceOfToolsHolds) {
  const std::string family = "deepseek-v3.1";
  const std::string now = one_call(family, "now", "{}"),
                    paris = one_call(family, "get_weather", R"({"city": "x", "days": 1})");
  const std::string both = section(family, {now, paris});
  EXPECT_EQ(taken(family, weather(ToolChoice::kRequired), "No"), "");
  EXPECT_EQ(taken(family, weather(ToolChoice::kRequired), both), both + "!");
  EXPECT_LT(taken(family, weather(ToolChoice::kNamed), both).size(), both.size()) << "only the named one";
  EXPECT_EQ(taken(family, weather(ToolChoice::kNamed), section(family, {paris})), section(family, {paris}) + "!");
  ToolRequest single = weather(ToolChoice::kRequired);
  single.parallel = false;
  EXPECT_EQ(taken(family, single, both), both.substr(0, both.find(paris)));
  EXPECT_EQ(taken(family, single, section(family, {now})), section(family, {now}) + "!");
  const auto none = constraint(family, {.tools = weather(ToolChoice::kNone)});
  EXPECT_FALSE(allows(*none, kCallsBegin));
  EXPECT_FALSE(allows(*none, kCallBegin));
  EXPECT_EQ(taken(*none, "Text {"), "Text {|");
  ToolRequest lax = weather();
  lax.tools[0].strict = false;
  EXPECT_EQ(constraint(family, {.tools = lax}), nullptr) << "nothing is demanded";
  EXPECT_EQ(constraint(family, {}), nullptr);
}

TEST_F(Constraints, AnAnswerIsACallOrWhatWasAskedFor) {
  const std::string family = "deepseek-v3.1";
  const GuidedOutput guided{"response_format", {GrammarText::Kind::kJsonSchema, R"({"type":"boolean"})"}};
  const std::string now = section(family, {one_call(family, "now", "{}")});
  const ConstraintRequest request{.tools = weather(), .guided = guided};
  EXPECT_EQ(taken(*constraint(family, request), "true"), "true!");
  EXPECT_EQ(taken(*constraint(family, request), now), now + "!");
  EXPECT_EQ(taken(*constraint(family, request), "Yes"), "");
  EXPECT_EQ(taken(*constraint("other", {.guided = guided}), "false"), "false!");
}

TEST_F(Constraints, GrammarsBeginBehindTheThought) {
  const GuidedOutput guided{"guided_choice", grammar::choice({"yes", "no"})};
  const auto c = constraint("deepseek-r1", {.guided = guided, .thinking_open = true});
  EXPECT_EQ(taken(*c, "Maybe yes </b>, maybe"), "Maybe yes </b>, maybe");
  c->accept(kEndThinkId);
  EXPECT_EQ(taken(*c, "yes, sir"), "yes");
  const auto hasty = constraint("deepseek-r1", {.guided = guided, .thinking_open = true, .budget = 2});
  EXPECT_EQ(taken(*hasty, "one two three"), "one two");
  EXPECT_EQ(taken(*hasty, "</think>no"), "</think>no!");
  const auto forced =
      constraint("deepseek-r1", {.guided = guided, .thinking_open = true, .force_tokens = {kEndThinkId}});
  EXPECT_EQ(taken(*forced, "</think>no"), "</think>no!");
  EXPECT_EQ(constraint("deepseek-r1", {.thinking_open = true}), nullptr);
}

TEST_F(Constraints, WhatCannotBeEnforcedIsRefusedByTheFieldsName) {
  const auto refused = [](const std::string& family, const ConstraintRequest& request) {
    try {
      constraint(family, request);
    } catch (const BadParameter& e) {
      return std::string(e.what());
    }
    return std::string("taken");
  };
  ToolRequest tools{{{"f", R"({"type": "object", "not": {"type": "null"}})", true}}, ToolChoice::kAuto, "", true};
  for (const char* family : {"deepseek-v3", "deepseek-v3.1", "kimi-k2", "deepseek-v3.2"}) {
    EXPECT_THAT(refused(family, {.tools = tools}), testing::AllOf(HasSubstr("tools"), HasSubstr("not"))) << family;
  }
  tools.tools[0].strict = false;
  tools.choice = ToolChoice::kRequired;
  EXPECT_EQ(taken("deepseek-v3.1", tools, section("deepseek-v3.1", {one_call("deepseek-v3.1", "f", "{}")})).back(), '!')
      << "not strict: any object";
  EXPECT_THAT(refused("other", {.tools = tools}), HasSubstr("tool_choice: this model has no tool calls"));
  const GuidedOutput bad{"guided_regex", {GrammarText::Kind::kRegex, "("}};
  EXPECT_THAT(refused("other", {.guided = bad}), HasSubstr("guided_regex: the regular expression cannot be enforced"));
}

// Whatever a model would say: the arguments are what the schema wants.
TEST_F(Constraints, RandomAnswersAreValidCalls) {
  constexpr const char* kSchema = R"({"type": "object", "properties": {"on": {"type": "boolean"},
      "name": {"enum": ["a\"b", "ü"]}, "text": {"type": "string", "maxLength": 3},
      "list": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 2}},
      "required": ["on", "list"], "additionalProperties": false})";
  std::mt19937 random(3);
  for (const char* family : {"deepseek-v3", "deepseek-v3.1", "kimi-k2", "deepseek-v3.2"}) {
    for (int round = 0; round < 8; ++round) {
      const ToolRequest tools{{{"f", kSchema, true}}, ToolChoice::kRequired, "", false};
      const auto c = constraint(family, {.tools = tools});
      AnswerReader reader(v3(), format(family), {.tools = true});
      Events events;
      for (int step = 0; step < 400 && !c->complete(); ++step) {
        std::vector<std::uint32_t> allowed(4040, ~0u);
        c->mask(allowed);
        std::vector<TokenId> candidates;
        for (TokenId id = 0; id < v3().vocab_size(); ++id)
          if ((allowed[static_cast<std::size_t>(id / 32)] >> (id % 32) & 1) != 0) candidates.push_back(id);
        ASSERT_FALSE(candidates.empty());
        const TokenId token = candidates[random() % candidates.size()];
        c->accept(token);
        for (Event& e : reader.push(token)) events.push_back(std::move(e));
      }
      ASSERT_TRUE(c->complete()) << family;
      for (Event& e : reader.finish()) events.push_back(std::move(e));
      std::string arguments;
      for (const Event& e : events) {
        EXPECT_NE(e.kind, Event::Kind::kContent) << e.text;
        if (e.kind == Event::Kind::kToolArguments) arguments += e.text;
      }
      ASSERT_EQ(reader.calls(), 1) << family;
      const Json got = Json::parse(arguments);
      EXPECT_TRUE(got.at("on").is_boolean()) << arguments;
      EXPECT_LE(got.at("list").size(), 2u) << arguments;
      for (const Json& n : got["list"]) EXPECT_LE(n.get<int>(), 99) << arguments;
      const Json name = got.value("name", Json());
      EXPECT_TRUE(name.is_null() || name == "a\"b" || name == "ü") << arguments;
      EXPECT_LE(got.size(), 4u);
    }
  }
}

// Printed, not judged: the time of a mask with the vocabulary of V3 along a typical answer.
TEST_F(Constraints, TimeOfAMask) {
  const std::string answer =
      R"({"name": "Ada Lovelace", "born": 1815, "notes": ["She wrote the first program, for a machine that was never )"
      R"(built.", "Countess; \"Enchantress of Number\" 数字"], "address": {"street": "12 St James's Square", "zip": "SW1"}})";
  const GrammarText schema{GrammarText::Kind::kJsonSchema, R"({"type": "object", "properties": {
      "name": {"type": "string"}, "born": {"type": "integer"}, "notes": {"type": "array", "items": {"type": "string"}},
      "address": {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"type": "string",
      "pattern": "^[A-Z0-9]{2,7}$"}}, "required": ["street"]}}, "required": ["name", "born"]})"};
  using Clock = std::chrono::steady_clock;
  const auto micros = [](Clock::duration d) { return std::chrono::duration<double, std::micro>(d).count(); };
  const GrammarText tools = *tool_grammar(format("deepseek-v3.1"), weather(), nullptr, false);
  const std::pair<const char*, GrammarText> grammars[] = {
      {"text beside strict tools", tools}, {"JSON schema", schema}, {"any object", grammar::any_json_object()}};
  for (const auto& [name, grammar] : grammars) {
    const Clock::time_point before = Clock::now();
    const auto c = compiler().compile(grammar);
    const double compiled = micros(Clock::now() - before);
    std::vector<double> times;
    std::vector<std::uint32_t> allowed(4040);
    for (const TokenId id : v3().encode(answer)) {
      std::fill(allowed.begin(), allowed.end(), ~0u);
      const Clock::time_point begin = Clock::now();
      c->mask(allowed);
      times.push_back(micros(Clock::now() - begin));
      ASSERT_NE(allowed[static_cast<std::size_t>(id / 32)] >> (id % 32) & 1, 0u) << v3().token_bytes(id);
      c->accept(id);
    }
    EXPECT_TRUE(c->complete() || allows(*c, kEos));
    std::sort(times.begin(), times.end());
    std::cout << name << ": compiled in " << compiled << " us; a mask takes " << times[times.size() / 2]
              << " us in the median, " << times[times.size() * 9 / 10] << " at 90 %, " << times.back() << " at most of "
              << times.size() << "\n";
  }
}

}  // namespace
}  // namespace constraints_test
}  // namespace hadal::chat
