#include "hadal/chat/guided.h"

#include <nlohmann/json.hpp>

#include "hadal/chat/bad_parameter.h"
#include "hadal/io/json.h"

namespace hadal::chat {
namespace {

using grammar::GrammarText;
using io::Json;

const Json* given(const Json& object, const char* name) {
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

const std::string& text_of(const Json& value, const std::string& name) {
  if (!value.is_string()) throw BadParameter(name, std::string("a string was expected, not a ") + value.type_name());
  return value.get_ref<const std::string&>();
}

GrammarText schema(const Json& value, const std::string& name) {
  if (value.is_string()) return {GrammarText::Kind::kJsonSchema, value.get<std::string>()};
  if (!value.is_object() && !value.is_boolean())
    throw BadParameter(name, std::string("a JSON schema was expected, not a ") + value.type_name());
  return {GrammarText::Kind::kJsonSchema, value.dump()};
}

GrammarText choices(const Json& value, const std::string& name) {
  if (!value.is_array() || value.empty()) throw BadParameter(name, "a list of texts was expected");
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < value.size(); ++i) texts.push_back(text_of(value[i], fmt::format("{}[{}]", name, i)));
  return grammar::choice(texts);
}

GrammarText lark(const Json& value, const std::string& name) {
  const std::string& text = text_of(value, name);
  if (text.find("::=") != std::string::npos)
    throw BadParameter(name, "is written in GBNF (\"::=\"); Lark is taken (\"start: …\")");
  return {GrammarText::Kind::kLark, text};
}

GrammarText object_flag(const Json& value, const std::string& name) {
  if (value != true) throw BadParameter(name, "only true is taken");
  return grammar::any_json_object();
}

using Read = GrammarText (*)(const Json&, const std::string&);
struct Field {
  const char* name;
  Read read;
};

GrammarText regex(const Json& value, const std::string& name) {
  return {GrammarText::Kind::kRegex, text_of(value, name)};
}

std::optional<GrammarText> response_format(const Json& value) {
  const Json* type = value.is_object() ? given(value, "type") : nullptr;
  if (!type || !type->is_string()) throw BadParameter("response_format", "an object with a type was expected");
  if (*type == "text") return std::nullopt;
  if (*type == "json_object") return grammar::any_json_object();
  if (*type != "json_schema")
    throw BadParameter("response_format.type",
                       fmt::format("\"{}\" is not one of text, json_object, json_schema", type->get<std::string>()));
  const Json* outer = given(value, "json_schema");
  const Json* inner = outer && outer->is_object() ? given(*outer, "schema") : nullptr;
  if (!inner) throw BadParameter("response_format.json_schema", "has no schema");
  return schema(*inner, "response_format.json_schema.schema");
}

}  // namespace

std::optional<GuidedOutput> read_guided(const Json& request) {
  std::optional<GuidedOutput> out;
  const auto found = [&](std::string name, GrammarText text) {
    if (out) throw BadParameter(name, "only one of it and " + out->param + " can be had");
    out = GuidedOutput{std::move(name), std::move(text)};
  };
  if (const Json* format = given(request, "response_format"))
    if (auto text = response_format(*format)) found("response_format", std::move(*text));
  constexpr Field kGuided[] = {
      {"guided_json", schema}, {"guided_regex", regex}, {"guided_choice", choices}, {"guided_grammar", lark}};
  for (const Field& f : kGuided)
    if (const Json* value = given(request, f.name)) found(f.name, f.read(*value, f.name));
  const Json* structured = given(request, "structured_outputs");
  if (!structured) return out;
  if (!structured->is_object()) throw BadParameter("structured_outputs", "an object was expected");
  constexpr Field kFields[] = {
      {"json", schema}, {"regex", regex}, {"choice", choices}, {"grammar", lark}, {"json_object", object_flag}};
  for (const Field& f : kFields) {
    const std::string name = std::string("structured_outputs.") + f.name;
    const Json* value = given(*structured, f.name);
    if (value && *value != false) found(name, f.read(*value, name));
  }
  if (given(*structured, "structural_tag"))
    throw BadParameter("structured_outputs.structural_tag", "is not supported; strict tools are");
  return out;
}

}  // namespace hadal::chat
