#include "hadal/chat/switches.h"

#include <array>

#include "hadal/chat/bad_parameter.h"
#include "hadal/io/json.h"

namespace hadal::chat {
namespace {

using io::Json;

const Json* field(const Json& object, const char* name) {
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::string shown_value(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 60 ? text : std::string("a ") + value.type_name();
}

bool boolean(const Json& value, const std::string& name) {
  if (!value.is_boolean()) throw BadParameter(name, shown_value(value) + " is not true or false");
  return value.get<bool>();
}

std::size_t count(const Json& value, const std::string& name) {
  if (!value.is_number_unsigned()) throw BadParameter(name, shown_value(value) + " is not a number of tokens");
  return value.get<std::size_t>();
}

// {"type": …} of DeepSeek's API.
bool thinking_type(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  const Json* type = value.is_object() ? field(value, "type") : nullptr;
  if (type && (*type == "enabled" || *type == "adaptive" || *type == "auto")) return true;
  if (type && *type == "disabled") return false;
  throw BadParameter("thinking", shown_value(value) + R"( is not {"type": "enabled"} or {"type": "disabled"})");
}

bool effort(const Json& value) {
  constexpr std::array kOn = {"low", "medium", "high", "xhigh", "max"};
  for (const char* word : kOn)
    if (value == word) return true;
  if (value == "none" || value == "minimal") return false;
  throw BadParameter("reasoning_effort", shown_value(value) + " is not one of none, minimal, low, medium, high");
}

}  // namespace

std::optional<std::size_t> ThinkingSwitches::budget_of(bool thinking_open) const {
  if (!thinking_open) return std::nullopt;
  return enabled == false ? 0 : budget;
}

ThinkingSwitches read_switches(const Json& request, const tokenizer::ChatTemplate& chat_template) {
  ThinkingSwitches out;
  if (const Json* kwargs = field(request, "chat_template_kwargs")) {
    if (!kwargs->is_object()) throw BadParameter("chat_template_kwargs", shown_value(*kwargs) + " is not an object");
    out.variables = *kwargs;
  }
  const Json* thinking = field(request, "thinking");
  for (const char* name : {"thinking", "enable_thinking"})
    if (const Json* value = field(out.variables, name); value && !out.enabled)
      out.enabled = boolean(*value, std::string("chat_template_kwargs.") + name);
  if (thinking) {
    const bool on = thinking_type(*thinking);
    if (!out.enabled) out.enabled = on;
  }
  if (const Json* value = field(request, "enable_thinking")) {
    const bool on = boolean(*value, "enable_thinking");
    if (!out.enabled) out.enabled = on;
  }
  if (const Json* value = field(request, "reasoning_effort")) {
    const bool on = effort(*value);
    if (!out.enabled) out.enabled = on;
  }
  if (thinking && thinking->is_object())
    if (const Json* tokens = field(*thinking, "budget_tokens")) out.budget = count(*tokens, "thinking.budget_tokens");
  if (const Json* tokens = field(request, "thinking_budget")) out.budget = count(*tokens, "thinking_budget");
  if (out.enabled)
    for (const char* name : {"thinking", "enable_thinking"})
      if (chat_template.mentions(name)) out.variables[name] = *out.enabled;
  return out;
}

}  // namespace hadal::chat
