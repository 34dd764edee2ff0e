#include "hadal/cli/generation_task.h"

#include <algorithm>
#include <set>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"
#include "hadal/serve/api/generation.h"
#include "hadal/serve/api/json.h"

namespace hadal::cli {
namespace {

using serve::Fields;
using serve::Json;

// Of no effect as long as it says what happens anyway.
void only(Fields& fields, const char* field, std::initializer_list<Json> good) {
  const Json* v = fields.find(field);
  if (v && std::find(good.begin(), good.end(), *v) == good.end())
    fields.refuse(field, serve::shown(*v) + ", which is not supported here");
}

void read_prompt(Fields& fields, GenerationTask& task) {
  int prompts = 0;
  if (const Json* v = fields.find("prompt")) {
    const bool ids = v->is_array() && !v->empty() && v->front().is_number();
    HADAL_CHECK(v->is_string() || ids, "prompt is {}, a string or a list of token ids was expected", v->dump());
    if (ids)
      fields.ids("prompt", task.prompt_ids);
    else
      task.text = v->get<std::string>();
    ++prompts;
  }
  if (const Json* v = fields.find("messages")) {
    HADAL_CHECK(v->is_array(), "messages is not a list");
    HADAL_CHECK(!v->empty(), "messages is empty");
    for (std::size_t i = 0; i < v->size(); ++i)
      HADAL_CHECK((*v)[i].is_object(), "messages[{}] is {}, an object was expected", i, (*v)[i].dump());
    task.messages = *v;
    ++prompts;
  }
  if (fields.find("prompt_ids")) {
    fields.ids("prompt_ids", task.prompt_ids);
    HADAL_CHECK(!task.prompt_ids.empty(), "prompt_ids is empty");
    ++prompts;
  }
  HADAL_CHECK(prompts == 1, "exactly one of prompt, messages and prompt_ids was expected");
  if (const Json* v = fields.find("tools")) {
    HADAL_CHECK(v->is_array(), "tools is not a list");
    task.tools = *v;
  }
}

void read_logprobs(Fields& fields, infer::SamplingParams& s) {
  std::int64_t top = s.top_logprobs;
  const Json* v = fields.find("logprobs");
  if (v && v->is_boolean())
    top = *v == true ? 0 : top;
  else
    fields.integer("logprobs", top, 0, 20);  // completions' spelling
  fields.integer("top_logprobs", top, 0, 20);
  s.top_logprobs = static_cast<int>(top);
}

void read_limits(Fields& fields, GenerationTask& task) {
  std::int64_t most = task.max_tokens, least = task.min_tokens, n = task.n;
  fields.integer("max_tokens", most, 1, INT32_MAX);
  fields.integer("max_completion_tokens", most, 1, INT32_MAX);
  fields.integer("min_tokens", least, 0, INT32_MAX);
  fields.integer("n", n, 1, 128);
  task.max_tokens = most;
  task.min_tokens = least;
  task.n = static_cast<int>(n);
}

// They are understood together with the model's template.
void read_switches(Fields& fields, GenerationTask& task) {
  for (const char* name :
       {"chat_template_kwargs", "thinking", "enable_thinking", "reasoning_effort", "thinking_budget"})
    if (const Json* v = fields.find(name)) task.switches[name] = *v;
}

void parse_object(const Json& json, GenerationTask& task) {
  Fields fields(json);
  fields.ignore({"id", "custom_id"});
  read_prompt(fields, task);
  serve::read_render(fields, task.messages, task.render);
  read_switches(fields, task);
  serve::read_sampling(fields, task.sampling);
  read_logprobs(fields, task.sampling);
  read_limits(fields, task);
  serve::read_stops(fields, task.stop);
  fields.ids("stop_token_ids", task.stop_token_ids);
  fields.flag("ignore_eos", task.ignore_eos);
  fields.flag("raw", task.raw);
  task.guided = serve::read_guided(fields, json);
  fields.ignore({"model", "user", "metadata", "store", "service_tier", "parallel_tool_calls", "stream_options"});
  only(fields, "stream", {false});
  only(fields, "tool_choice", {"auto"});
  for (const std::string& name : fields.unknown())
    throw InvalidRequest(
        name + " is not a field that is known here (variables of the chat template belong into chat_template_kwargs)");
}

// A line of OpenAI's batch files holds the request in its body.
const Json& request_of(const Json& json) {
  if (!json.contains("body")) return json;
  HADAL_CHECK(json["body"].is_object(), "body is {}, an object was expected", json["body"].dump());
  const std::string url = json.value("url", std::string("/v1/chat/completions"));
  HADAL_CHECK(url.ends_with("/completions"), "url is {}, only completions and chat completions are answered here", url);
  return json["body"];
}

void read_line(std::string_view line, GenerationTask& task) {
  if (line[line.find_first_not_of(" \t")] != '{') {
    task.text = line;
    return;
  }
  const Json json = io::parse_json(line, task.place);
  for (const char* field : {"id", "custom_id"})
    if (json.contains(field) && !json[field].is_null()) task.id = json[field];
  io::check_integers(line, task.place);
  parse_object(request_of(json), task);
}

// A list of requests, or one request over several lines, would be taken for prompts line by line.
void check_lines(std::string_view input, const std::string& where) {
  const std::size_t begin = std::min(input.find_first_not_of(" \t\r\n"), input.size());
  const std::string_view text = input.substr(begin), line = text.substr(0, text.find('\n'));
  if (!text.starts_with('[') && (!text.starts_with('{') || Json::accept(line))) return;
  const Json whole = Json::parse(text, nullptr, false);
  const bool requests = whole.is_object() || (whole.is_array() && !whole.empty() && whole[0].is_object());
  HADAL_CHECK(!requests,
              "{}: is one JSON document, a JSON object on each line was expected (jq -c '.[]' makes lines of a list)",
              where);
}

}  // namespace

std::string sentence_about(const GenerationTask& task, const std::string& what) {
  const std::string rest = what.starts_with(task.place + ": ") ? what.substr(task.place.size() + 2) : what;
  return fmt::format("{} (id {}): {}", task.place, task.id.dump(-1, ' ', false, Json::error_handler_t::replace), rest);
}

std::vector<GenerationTask> parse_tasks(std::string_view input, const std::string& where,
                                        const GenerationTask& defaults) {
  input = io::utf8_text(input, where);
  check_lines(input, where);
  std::vector<GenerationTask> tasks;
  std::set<std::string> ids;
  std::size_t at = 0;
  for (std::int64_t number = 1; at < input.size(); ++number) {
    const std::size_t end = std::min(input.find('\n', at), input.size());
    std::string_view line = input.substr(at, end - at);
    at = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == line.npos) continue;
    GenerationTask task = defaults;
    task.id = number;
    task.place = fmt::format("{}, line {}", where, number);
    try {
      read_line(line, task);
      HADAL_CHECK(ids.insert(task.id.dump()).second, "id {} occurs twice", task.id.dump());
    } catch (const std::exception& e) {
      task.fault = e.what();
      task.n = 1;
    }
    tasks.push_back(std::move(task));
  }
  return tasks;
}

}  // namespace hadal::cli
