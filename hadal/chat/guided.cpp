#include "hadal/chat/guided.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "hadal/chat/bad_parameter.h"
#include "hadal/grammar/lark.h"
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

struct Structure {
  std::string begin, schema, end;
};

class StructuralTag {
 public:
  StructuralTag(const Json& given_value, std::string name) : name_(std::move(name)) {
    Json value = given_value;
    if (value.is_string()) value = Json::parse(value.get_ref<const std::string&>(), nullptr, false);
    if (!value.is_object()) throw BadParameter(name_, "an object was expected, or one as text");
    if (value.contains("format"))
      throw BadParameter(name_ + ".format", "is not supported; structures and triggers are");
    for (const Json& one : list(value, "structures")) read_structure(one);
    for (const Json& one : list(value, "triggers")) {
      triggers_.push_back(text_of(one, fmt::format("{}.triggers[{}]", name_, triggers_.size())));
      if (triggers_.back().empty()) throw BadParameter(name_ + ".triggers", "has an empty text");
    }
    for (std::size_t i = 0; i < structures_.size(); ++i)
      if (std::none_of(triggers_.begin(), triggers_.end(),
                       [&](const std::string& t) { return structures_[i].begin.starts_with(t); }))
        throw BadParameter(fmt::format("{}.structures[{}].begin", name_, i), "begins with none of the triggers");
  }

  GuidedOutput grammar() const {
    std::string any;
    for (const std::string& t : triggers_) (any += any.empty() ? "" : "|") += grammar::regex_of_text(t);
    std::string start, rules;
    for (std::size_t i = 0; i < triggers_.size(); ++i) {
      std::string bodies;
      for (const Structure& s : structures_)
        if (s.begin.starts_with(triggers_[i])) (bodies += bodies.empty() ? "" : " | ") += body(s, triggers_[i].size());
      // A trigger without structures is one that may not come.
      if (bodies.empty()) continue;
      // Of text with a trigger at its end and none before.
      rules += fmt::format("TEXT_{0}: /(?s:.*){1}/ & ~/(?s:.*)({2})(?s:.+)/\nbody_{0}: {3}\n", i,
                           grammar::regex_of_text(triggers_[i]), any, bodies);
      start += fmt::format("{}TEXT_{} body_{}", start.empty() ? "" : " | ", i, i);
    }
    rules += fmt::format("REST: /(?s:.*)/ & ~/(?s:.*)({})(?s:.*)/\n", any);
    GuidedOutput out{name_, {GrammarText::Kind::kLark, "start: (" + start + ")* REST\n" + rules}, triggers_};
    for (const Structure& s : structures_) out.markers.insert(out.markers.end(), {s.begin, s.end});
    return out;
  }

 private:
  const Json& list(const Json& value, const char* field) const {
    const Json* v = given(value, field);
    if (!v || !v->is_array() || v->empty()) throw BadParameter(name_ + "." + field, "a list was expected");
    return *v;
  }
  void read_structure(const Json& one) {
    const std::string place = fmt::format("{}.structures[{}]", name_, structures_.size());
    const auto member = [&](const char* field) -> const Json& {
      const Json* v = one.is_object() ? given(one, field) : nullptr;
      if (!v) throw BadParameter(place + "." + field, "is missing");
      return *v;
    };
    structures_.push_back({text_of(member("begin"), place + ".begin"), schema(member("schema"), place + ".schema").text,
                           text_of(member("end"), place + ".end")});
  }
  static std::string body(const Structure& s, std::size_t from) {
    std::string out;
    if (from < s.begin.size()) out = grammar::lark_text(std::string_view(s.begin).substr(from)) + " ";
    out += grammar::lark_json(s.schema);
    return s.end.empty() ? out : out + " " + grammar::lark_text(s.end);
  }

  std::string name_;
  std::vector<Structure> structures_;
  std::vector<std::string> triggers_;
};

std::optional<GrammarText> response_format(const Json& value) {
  const Json* type = value.is_object() ? given(value, "type") : nullptr;
  if (!type || !type->is_string()) throw BadParameter("response_format", "an object with a type was expected");
  if (*type == "text") return std::nullopt;
  if (*type == "json_object") return grammar::any_json_object();
  if (*type != "json_schema")
    throw BadParameter(
        "response_format.type",
        fmt::format("\"{}\" is not one of text, json_object, json_schema, structural_tag", type->get<std::string>()));
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
  const auto found_tag = [&](const std::string& name, const Json& value) {
    GuidedOutput tag = StructuralTag(value, name).grammar();
    found(name, std::move(tag.grammar));
    out->markers = std::move(tag.markers);
  };
  if (const Json* format = given(request, "response_format")) {
    if (format->is_object() && format->value("type", Json()) == "structural_tag")
      found_tag("response_format", *format);
    else if (auto text = response_format(*format))
      found("response_format", std::move(*text));
  }
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
  if (const Json* tag = given(*structured, "structural_tag")) found_tag("structured_outputs.structural_tag", *tag);
  return out;
}

}  // namespace hadal::chat
