#include <limits>

#include "hadal/chat/markup.h"
#include "hadal/serve/api/chat.h"
#include "hadal/serve/api/json.h"

namespace hadal::serve {
namespace {

Json read_messages(Fields& fields) {
  const Json* messages = fields.list("messages");
  if (!messages) throw ApiError::invalid("messages", "messages is missing");
  if (messages->empty()) fields.refuse("messages", "empty");
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const Json& m = (*messages)[i];
    const std::string place = fmt::format("messages[{}]", i);
    if (!m.is_object()) throw ApiError::invalid(place, place + " is " + shown(m) + ", an object was expected");
    const auto role = m.find("role");
    if (role == m.end() || !role->is_string())
      throw ApiError::invalid(place + ".role", place + ".role is missing or no string");
  }
  return *messages;
}

void read_template(Fields& fields, const Json& body, const ServedModel& model, Conversation& out) {
  tokenizer::RenderOptions& r = out.render;
  r.add_generation_prompt = true;
  read_render(fields, out.messages, r);
  out.thinking = chat::read_switches(body, model.needs_template());
  fields.ignore({"chat_template_kwargs", "thinking", "enable_thinking", "reasoning_effort", "thinking_budget"});
  for (const auto& [name, value] : out.thinking.variables.items()) r.variables[name] = value;
}

void read_chat_limits(Fields& fields, Generation& out) {
  std::int64_t max_tokens = 0, top_logprobs = -1;
  fields.integer("max_tokens", max_tokens, 1, kMostTokens);
  fields.integer("max_completion_tokens", max_tokens, 1, kMostTokens);
  out.request.max_tokens = max_tokens;
  bool logprobs = false;
  fields.flag("logprobs", logprobs);
  fields.integer("top_logprobs", top_logprobs, 0, 20);
  if (top_logprobs > 0 && !logprobs) fields.refuse("top_logprobs", "given, and logprobs is not true");
  if (logprobs) out.request.sampling.top_logprobs = static_cast<int>(std::max<std::int64_t>(top_logprobs, 0));
}

}  // namespace

Conversation read_conversation(Fields& fields, const Json& body, const ServedModel& model) {
  model.needs_template();
  Conversation out;
  out.messages = read_messages(fields);
  if (const Json* tools = fields.list("tools"); tools && !tools->empty()) out.tools = *tools;
  read_template(fields, body, model, out);
  return out;
}

ChatRequest read_chat(Fields& fields, const Json& body, const ServedModel& model, const ApiOptions& options) {
  ChatRequest out;
  out.conversation = read_conversation(fields, body, model);
  const Conversation& c = out.conversation;
  Generation& g = out.generation;
  read_generation(fields, model, options, g);
  read_chat_limits(fields, g);
  out.form.tools = chat::read_tools(body);
  fields.ignore({"tool_choice", "parallel_tool_calls"});
  out.form.guided = read_guided(fields, body);
  const tokenizer::Prompt prompt = model.needs_template().render(c.messages, c.tools, c.render);
  g.prompts = {{.ids = model.needs_tokenizer().encode(prompt)}};
  out.form.thinking_open = chat::thinking_open(prompt);
  out.form.budget = c.thinking.budget_of(out.form.thinking_open);
  constrain(out.form, model, g);
  return out;
}

}  // namespace hadal::serve
