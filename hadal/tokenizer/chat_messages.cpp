#include "hadal/tokenizer/chat_messages.h"

#include <nlohmann/json.hpp>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"

namespace hadal::tokenizer {
namespace {

using io::Json;
using jinja::Dict;
using jinja::List;
using jinja::make_text;
using jinja::Value;

Value user_text(std::string_view text) {
  return make_text(text, Origin::kUser);
}

// One message; errors name it by its place in the list.
class MessageReader {
 public:
  MessageReader(const MessageStyle& style, std::string place) : style_(style), place_(std::move(place)) {}

  Value read(const Json& m) const {
    Dict out;
    for (const auto& [key, value] : m.items()) {
      if (key == "content")
        out.emplace_back(user_text(key), content(value, m));
      else if (key == "role")
        out.emplace_back(user_text(key), user_text(role(value.get_ref<const std::string&>())));
      else if (key == "tool_calls")
        add_tool_calls(value, out);
      else if (!value.is_null())
        out.emplace_back(user_text(key), jinja::from_json(value, Origin::kUser));
    }
    if (!m.contains("content")) add_missing_content(m, out);
    return out;
  }

  // The message whose text is to be continued: content is text, whatever its form was.
  Value read_continued(const Json& m, const std::string& behind) const {
    const Json text = m.contains("content") ? m["content"] : Json();
    if (!text.is_null() && !text.is_string() && !text.is_array()) refuse_content(text);
    const Value others = read(m);
    Dict out;
    for (const auto& [key, value] : *others.dict())
      if (key.text()->text != "content") out.emplace_back(key, value);
    const std::string written = text.is_array() ? joined(text) : text.is_string() ? text.get<std::string>() : "";
    jinja::Text marked = make_text(written, behind.empty() ? Origin::kContinued : Origin::kUser);
    marked.append(behind, Origin::kContinued);
    out.emplace_back(user_text("content"), std::move(marked));
    return out;
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    throw InvalidRequest(place_ + fmt::format(format, std::forward<Args>(args)...));
  }
  [[noreturn]] void refuse_content(const Json& content) const {
    refuse(".content is {}, a string or a list of text parts was expected", shown(content));
  }
  static std::string shown(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return text.size() <= 60 ? text : std::string("a ") + value.type_name();
  }

  std::string role(const std::string& given) const {
    return given == "developer" && !style_.developer ? "system" : given;
  }

  static bool is_assistant(const Json& m) { return m.value("role", Json()) == "assistant"; }

  static Value no_content() { return Value(jinja::None{}).with_other_form(jinja::Text()); }

  Value content(const Json& value, const Json& m) const {
    if (value.is_string()) return user_text(value.get_ref<const std::string&>());
    if (value.is_null()) {
      if (!is_assistant(m)) refuse(".content is null, which only an assistant's message may have");
      return no_content();
    }
    if (!value.is_array()) refuse_content(value);
    if (!style_.content_parts) return user_text(joined(value));
    List parts;
    for (std::size_t i = 0; i < value.size(); ++i)
      parts.push_back(
          Dict{{user_text("type"), user_text("text")}, {user_text("text"), user_text(part_text(value, i))}});
    return parts;
  }

  std::string joined(const Json& parts) const {
    std::string out;
    for (std::size_t i = 0; i < parts.size(); ++i) (out += i ? "\n" : "") += part_text(parts, i);
    return out;
  }

  const std::string& part_text(const Json& parts, std::size_t i) const {
    const Json& part = parts[i];
    if (part.is_string()) return part.get_ref<const std::string&>();
    const auto field = [&](const char* name) -> const std::string* {
      const auto it = part.find(name);
      return it != part.end() && it->is_string() ? &it->get_ref<const std::string&>() : nullptr;
    };
    if (!part.is_object()) refuse(".content[{}] is {}, a text part was expected", i, shown(part));
    const std::string* type = field("type");
    const bool good = !type || *type == "text" || *type == "input_text" || *type == "output_text";
    if (!good) refuse(".content[{}] is a part of type \"{}\"; this model takes text only", i, *type);
    const std::string* text = field("text");
    if (!text) refuse(".content[{}] has no \"text\" that is a string", i);
    return *text;
  }

  void add_missing_content(const Json& m, Dict& out) const {
    const Json role = m["role"];
    if (is_assistant(m))
      out.emplace_back(user_text("content"), no_content());
    else if (role == "user" || role == "system" || role == "developer" || role == "tool")
      refuse(" has no content");
  }

  void add_tool_calls(const Json& calls, Dict& out) const {
    if (calls.is_null() || (calls.is_array() && calls.empty())) return;
    if (!calls.is_array()) refuse(".tool_calls is {}, a list was expected", shown(calls));
    List list;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const std::string place = fmt::format(".tool_calls[{}]", i);
      if (!calls[i].is_object()) refuse("{} is {}, an object was expected", place, shown(calls[i]));
      list.push_back(tool_call(calls[i], place));
    }
    out.emplace_back(user_text("tool_calls"), std::move(list));
  }

  // {"function": {"name", "arguments"}} or, as some write it, name and arguments at once.
  Value tool_call(const Json& call, const std::string& place) const {
    Dict out;
    for (const auto& [key, value] : call.items()) {
      if (key == "function" && value.is_object())
        out.emplace_back(user_text(key), tool_call(value, place + ".function"));
      else if (key == "arguments")
        out.emplace_back(user_text(key), arguments(value, place + ".arguments"));
      else if (!value.is_null())
        out.emplace_back(user_text(key), jinja::from_json(value, Origin::kUser));
    }
    return out;
  }

  // Some templates print it as it is, others encode it as JSON: V3 and R1 want text, vLLM's templates for them objects.
  Value arguments(const Json& value, const std::string& place) const {
    if (value.is_null()) return Value(Dict()).with_other_form(user_text("{}"));
    if (value.is_object()) {
      const Value object = jinja::from_json(value, Origin::kUser);
      return object.with_other_form(user_text(jinja::to_json(object, {})));
    }
    if (!value.is_string()) refuse("{} is {}, an object or its JSON text was expected", place, shown(value));
    const std::string& text = value.get_ref<const std::string&>();
    if (text.empty()) return user_text(text).with_other_form(Dict());
    const Json parsed = parsed_object(text, place_ + place);
    return parsed.is_object() ? user_text(text).with_other_form(jinja::from_json(parsed, Origin::kUser))
                              : user_text(text);
  }

  // What a model wrote may be no JSON at all: then it is text and nothing else.
  static Json parsed_object(const std::string& text, const std::string& where) {
    Json parsed;
    try {
      parsed = io::parse_json(text, where);
    } catch (const Error&) {
      return Json();
    }
    try {
      io::check_integers(text, where);
    } catch (const Error& e) {
      throw InvalidRequest(e.what());
    }
    return parsed;
  }

  const MessageStyle& style_;
  std::string place_;
};

}  // namespace

Value message_values(const Json& messages, const MessageStyle& style, bool continue_final, const std::string& behind) {
  List out;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const MessageReader reader(style, fmt::format("messages[{}]", i));
    const bool continued = continue_final && i + 1 == messages.size();
    out.push_back(continued ? reader.read_continued(messages[i], behind) : reader.read(messages[i]));
  }
  return out;
}

}  // namespace hadal::tokenizer
