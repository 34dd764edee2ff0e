#include "hadal/chat/tools.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "hadal/chat/bad_parameter.h"
#include "hadal/io/json.h"

namespace hadal::chat {
namespace {

using io::Json;

const Json* member(const Json& object, const char* name) {
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

// Names stand in markup between other text.
bool is_name(const std::string& text) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  };
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), good);
}

Tool read_tool(const Json& value, const std::string& place) {
  if (!value.is_object()) throw BadParameter(place, "an object was expected");
  if (const Json* type = member(value, "type"); type && *type != "function")
    throw BadParameter(place + ".type", "only \"function\" is taken");
  const Json* function = member(value, "function");
  if (!function || !function->is_object()) throw BadParameter(place + ".function", "an object was expected");
  Tool out;
  const Json* name = member(*function, "name");
  if (!name || !name->is_string() || !is_name(name->get<std::string>()))
    throw BadParameter(place + ".function.name",
                       "up to 128 letters, digits, underscores, dashes and dots were expected");
  out.name = name->get<std::string>();
  const Json* parameters = member(*function, "parameters");
  if (parameters && !parameters->is_object())
    throw BadParameter(place + ".function.parameters", "a JSON schema was expected, an object");
  Json schema = parameters ? *parameters : Json::object();
  if (schema.empty()) schema["type"] = "object";
  out.parameters = schema.dump();
  if (const Json* strict = member(*function, "strict")) {
    if (!strict->is_boolean()) throw BadParameter(place + ".function.strict", "true or false was expected");
    out.strict = strict->get<bool>();
  }
  return out;
}

void read_choice(const Json& value, ToolRequest& out) {
  if (value == "auto" || value == "none" || value == "required" || value == "any") {
    out.choice = value == "auto" ? ToolChoice::kAuto : value == "none" ? ToolChoice::kNone : ToolChoice::kRequired;
    return;
  }
  const Json* function = value.is_object() ? member(value, "function") : nullptr;
  const Json* name = function && function->is_object() ? member(*function, "name") : nullptr;
  if (!name || !name->is_string())
    throw BadParameter("tool_choice",
                       R"(auto, none, required or {"type": "function", "function": {"name": …}} was expected)");
  out.choice = ToolChoice::kNamed;
  out.named = name->get<std::string>();
  if (std::none_of(out.tools.begin(), out.tools.end(), [&](const Tool& t) { return t.name == out.named; }))
    throw BadParameter("tool_choice", "there is no tool called " + out.named);
}

}  // namespace

ToolRequest read_tools(const Json& request) {
  ToolRequest out;
  if (const Json* tools = member(request, "tools")) {
    if (!tools->is_array()) throw BadParameter("tools", "a list was expected");
    for (std::size_t i = 0; i < tools->size(); ++i) {
      Tool tool = read_tool((*tools)[i], fmt::format("tools[{}]", i));
      if (std::any_of(out.tools.begin(), out.tools.end(), [&](const Tool& t) { return t.name == tool.name; }))
        throw BadParameter(fmt::format("tools[{}].function.name", i), "another tool is called " + tool.name + " too");
      out.tools.push_back(std::move(tool));
    }
  }
  out.choice = out.tools.empty() ? ToolChoice::kNone : ToolChoice::kAuto;
  if (const Json* choice = member(request, "tool_choice")) read_choice(*choice, out);
  if (out.tools.empty()) {
    if (out.choice == ToolChoice::kRequired) throw BadParameter("tool_choice", "there are no tools");
    out.choice = ToolChoice::kNone;
  }
  if (const Json* parallel = member(request, "parallel_tool_calls")) {
    if (!parallel->is_boolean()) throw BadParameter("parallel_tool_calls", "true or false was expected");
    out.parallel = parallel->get<bool>();
  }
  return out;
}

}  // namespace hadal::chat
