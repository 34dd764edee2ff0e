// Grammars of tool calls (Lark), such that the arguments always match their schema. Control tokens of the markup are
// named by their ids, so that no text can begin or end a call.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "hadal/chat/bad_parameter.h"
#include "hadal/chat/constraints.h"
#include "hadal/grammar/lark.h"
#include "hadal/io/json.h"

namespace hadal::chat {
namespace {

using grammar::GrammarText;
using io::Json;

constexpr const char* kAnyText = "(?s:.*)";
constexpr const char* kAnyObject = R"({"type":"object"})";

class ToolGrammar {
 public:
  ToolGrammar(const AnswerFormat& format, const ToolRequest& tools, bool all_schemas)
      : format_(format), tools_(tools), all_schemas_(all_schemas), m_(tool_markers(format.markup.tools)) {}

  GrammarText make(const GrammarText* content) {
    const bool must = tools_.choice == ToolChoice::kRequired || tools_.choice == ToolChoice::kNamed;
    const std::string calls = rule("calls", calls_of());
    std::string start = must ? section_begin("") + " " + calls : "";
    if (!must && content)
      start = content_of(*content) + " | " + section_begin("") + " " + calls;
    else if (!must)
      start = text_without_calls() + " | " + section_begin(kAnyText) + " " + calls;
    std::string lark = "start: " + start + "\n" + rules_;
    return {GrammarText::Kind::kLark, std::move(lark)};
  }

 private:
  bool dsml() const { return format_.markup.tools == ToolStyle::kDsml; }
  std::string spelled(const std::string& markup) const { return lark_pieces(format_.alphabet.pieces(markup)); }

  std::string rule(const std::string& name, const std::string& body) {
    rules_ += name + ": " + body + "\n";
    return name;
  }

  // `before` (a regular expression, or nothing) and the marker that begins a section. Text up to a control token is
  // one lexeme with the marker's first characters: both would match them.
  std::string section_begin(const std::string& before) {
    return after_text(before, m_.section_begin + (dsml() ? "\n" : ""), "BEGIN");
  }

  std::string after_text(const std::string& before, const std::string& markup, const std::string& terminal) {
    if (before.empty()) return spelled(markup);
    const grammar::Pieces pieces = format_.alphabet.pieces(markup);
    const auto token = std::find_if(pieces.begin(), pieces.end(), [](const auto& p) { return p.token >= 0; });
    if (token == pieces.end()) {
      const std::string mark = grammar::regex_of_text(markup);
      return rule(terminal, "/" + before + mark + "/ & ~/(?s:.*)" + mark + "(?s:.+)/");
    }
    std::string first;
    for (auto it = pieces.begin(); it != token; ++it) first += it->text;
    return rule(terminal, "/" + before + grammar::regex_of_text(first) + "/") + " " +
           grammar::lark_pieces({token, pieces.end()});
  }

  // Where the marker is text, there is no such text.
  std::string text_without_calls() {
    if (format_.calls.are_tokens) return rule("TEXT", std::string("/") + kAnyText + "/");
    return rule("TEXT", "/(?s:.*)/ & ~/(?s:.*)" + grammar::regex_of_text(m_.section_begin) + "(?s:.*)/");
  }

  std::string content_of(const GrammarText& content) {
    switch (content.kind) {
      case GrammarText::Kind::kJsonSchema:
        return rule("content", grammar::lark_json(content.text));
      case GrammarText::Kind::kRegex:
      case GrammarText::Kind::kLark:
        break;
    }
    throw BadParameter("tools", "together with guided output of the text only a JSON schema can be had");
  }

  std::string calls_of() {
    std::string any;
    for (std::size_t i = 0; i < tools_.tools.size(); ++i) {
      if (tools_.choice == ToolChoice::kNamed && tools_.tools[i].name != tools_.named) continue;
      (any += any.empty() ? "" : " | ") += call(tools_.tools[i], std::to_string(i));
    }
    const std::string one = rule("call", any);
    const std::string between = format_.markup.tools == ToolStyle::kV3 || dsml() ? grammar::lark_text("\n") + " " : "";
    const std::string more = tools_.parallel ? " (" + between + one + ")*" : "";
    return one + more + " " + spelled((dsml() ? "\n" : "") + m_.section_end);
  }

  std::string call(const Tool& tool, const std::string& number) {
    const std::string& schema = tool.strict || all_schemas_ ? tool.parameters : kAnyObject_;
    const std::string name = "call_" + number;
    if (dsml()) return rule(name, dsml_call(tool, schema, number));
    const std::string arguments = rule("arguments_" + number, grammar::lark_json(schema));
    switch (format_.markup.tools) {
      case ToolStyle::kV3:
        return rule(name, spelled(m_.call_begin + "function" + m_.separator + tool.name + "\n```json\n") + " " +
                              arguments + " " + spelled("\n```" + m_.call_end));
      case ToolStyle::kKimi:
        return rule(name, spelled(m_.call_begin + "functions." + tool.name + ":") + " /[0-9]{1,4}/ " +
                              spelled(m_.separator) + " " + arguments + " " + spelled(m_.call_end));
      default:
        return rule(name,
                    spelled(m_.call_begin + tool.name + m_.separator) + " " + arguments + " " + spelled(m_.call_end));
    }
  }

  // Each parameter by itself, in the order of the schema.
  std::string dsml_call(const Tool& tool, const std::string& text, const std::string& number) {
    const Json schema = io::parse_json(text, tool.name);
    const std::string begin = spelled(m_.call_begin + tool.name + "\">\n"), end = spelled(m_.call_end);
    if (!schema.contains("properties") && !tool.strict) return begin + " " + any_parameters(number) + " " + end;
    check_dsml_schema(schema, tool);
    std::string parameters;
    const Json required = schema.value("required", Json::array());
    std::size_t i = 0;
    const Json properties = schema.value("properties", Json::object());
    for (const auto& [key, value] : properties.items()) {
      const bool needed = std::find(required.begin(), required.end(), Json(key)) != required.end();
      const std::string parameter = dsml_parameter(key, value, schema, number + "_" + std::to_string(i++));
      parameters += needed ? parameter + " " : "(" + parameter + ")? ";
    }
    return begin + " " + parameters + end;
  }

  static void check_dsml_schema(const Json& schema, const Tool& tool) {
    const std::string place = "tools." + tool.name + ".parameters";
    for (const auto& [key, value] : schema.items()) {
      static const std::vector<std::string> known = {"type",   "properties",  "required", "additionalProperties",
                                                     "title",  "description", "$defs",    "definitions",
                                                     "$schema"};
      if (std::find(known.begin(), known.end(), key) == known.end())
        throw BadParameter(place, "this model's tool calls cannot be held to \"" + key + "\" of all parameters");
    }
    const Json required = schema.value("required", Json::array());
    if (schema.value("type", Json("object")) != "object" || !required.is_array() ||
        !schema.value("properties", Json::object()).is_object())
      throw BadParameter(place, "the schema of an object with properties was expected");
    for (const Json& name : required)
      if (!name.is_string() || !schema["properties"].contains(name.get<std::string>()))
        throw BadParameter(place, "requires " + name.dump() + ", which is none of its properties");
  }

  std::string dsml_parameter(const std::string& key, const Json& value, const Json& whole, const std::string& number) {
    if (key.find_first_of("\"<>\n") != std::string::npos)
      throw BadParameter("tools", "this model's tool calls cannot have a parameter called " + key);
    const std::string close = parameter_end() + "\n";
    const auto opened = [&](const char* is_text) {
      return spelled(m_.separator + key + "\" string=\"" + is_text + "\">");
    };
    if (is_plain_text(value)) return opened("true") + " " + after_text(kAnyText, close, "VALUE_" + number);
    Json schema = value;
    for (const char* name : {"$defs", "definitions"})
      if (schema.is_object() && whole.contains(name)) schema[name] = whole[name];
    return opened("false") + " " + rule("value_" + number, grammar::lark_json(schema.dump())) + " " + spelled(close);
  }

  // A string without conditions; others are written as JSON, which the markup allows.
  static bool is_plain_text(const Json& schema) {
    if (!schema.is_object() || schema.value("type", Json()) != "string") return false;
    return std::all_of(schema.items().begin(), schema.items().end(), [](const auto& item) {
      return item.key() == "type" || item.key() == "description" || item.key() == "title" || item.key() == "default" ||
             item.key() == "examples";
    });
  }

  // Of a tool whose arguments may be anything.
  std::string any_parameters(const std::string& number) {
    const std::string close = parameter_end() + "\n";
    const std::string name = "/[^\"<>\\n]{1,128}/";
    const std::string text = spelled(m_.separator) + " " + name + " " + spelled("\" string=\"true\">") + " " +
                             after_text(kAnyText, close, "VALUE_" + number);
    const std::string json = spelled(m_.separator) + " " + name + " " + spelled("\" string=\"false\">") + " " +
                             rule("value_" + number, grammar::lark_json("{}")) + " " + spelled(close);
    return "(" + text + " | " + json + ")*";
  }

  static std::string parameter_end() { return "</｜DSML｜parameter>"; }

  const AnswerFormat& format_;
  const ToolRequest& tools_;
  bool all_schemas_;
  const ToolMarkers& m_;
  std::string rules_;
  std::string kAnyObject_ = kAnyObject;
};

}  // namespace

std::optional<GrammarText> tool_grammar(const AnswerFormat& format, const ToolRequest& tools,
                                        const GrammarText* content, bool all_schemas) {
  const bool strict = std::any_of(tools.tools.begin(), tools.tools.end(), [](const Tool& t) { return t.strict; });
  const bool needed = tools.choice == ToolChoice::kRequired || tools.choice == ToolChoice::kNamed ||
                      (tools.choice == ToolChoice::kAuto && (strict || content));
  if (!needed) return content ? std::optional(*content) : std::nullopt;
  if (format.markup.tools == ToolStyle::kNone) {
    if (tools.choice == ToolChoice::kAuto && content) return *content;
    throw BadParameter(tools.choice == ToolChoice::kAuto ? "tools" : "tool_choice",
                       "this model has no tool calls that could be required or held to a schema");
  }
  return ToolGrammar(format, tools, all_schemas).make(content);
}

}  // namespace hadal::chat
