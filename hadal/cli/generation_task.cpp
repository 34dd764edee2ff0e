#include "hadal/cli/generation_task.h"

#include <cmath>
#include <set>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::ordered_json;

// Fields of one JSON line; errors name the field.
class Line {
 public:
  explicit Line(const Json& json) : json_(json) {}

  const Json* find(const char* field) {
    known_.insert(field);
    const auto it = json_.find(field);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  // Known, and of no effect here.
  void ignore(std::initializer_list<const char*> fields) {
    for (const char* field : fields) known_.insert(field);
  }
  // Of no effect as long as it says what happens anyway.
  void only(const char* field, std::initializer_list<Json> good) {
    const Json* v = find(field);
    if (!v) return;
    for (const Json& value : good)
      if (*v == value) return;
    HADAL_CHECK(false, "{} is {}, which is not supported here", field, v->dump());
  }
  void number(const char* field, double& to) {
    if (const Json* v = find(field)) {
      HADAL_CHECK(v->is_number(), "{} is {}, a number was expected", field, v->dump());
      to = v->get<double>();
    }
  }
  template <class Integer>
  void integer(const char* field, Integer& to, std::int64_t least, std::int64_t most) {
    if (const Json* v = find(field)) {
      const bool good = v->is_number_integer() && v->get<double>() >= static_cast<double>(least) &&
                        v->get<double>() <= static_cast<double>(most);
      HADAL_CHECK(good, "{} is {}, an integer from {} to {} was expected", field, v->dump(), least, most);
      to = static_cast<Integer>(v->get<std::int64_t>());
    }
  }
  void flag(const char* field, bool& to) {
    if (const Json* v = find(field)) {
      HADAL_CHECK(v->is_boolean(), "{} is {}, true or false was expected", field, v->dump());
      to = v->get<bool>();
    }
  }
  void strings(const char* field, std::vector<std::string>& to) {
    const Json* v = find(field);
    if (!v) return;
    const Json list = v->is_array() ? *v : Json::array({*v});
    to.clear();
    for (const Json& s : list) {
      HADAL_CHECK(s.is_string(), "{} is {}, a string or a list of strings was expected", field, v->dump());
      to.push_back(s.get<std::string>());
    }
  }
  void ids(const char* field, std::vector<config::TokenId>& to) {
    const Json* v = find(field);
    if (!v) return;
    HADAL_CHECK(v->is_array(), "{} is {}, a list of token ids was expected", field, v->dump());
    for (const Json& id : *v) {
      HADAL_CHECK(id.is_number_integer() && id.get<double>() >= 0 && id.get<double>() <= INT32_MAX,
                  "{} holds {}, which is not a token id", field, id.dump());
      to.push_back(id.get<config::TokenId>());
    }
  }
  void check_unknown() const {
    for (const auto& [name, value] : json_.items())
      HADAL_CHECK(known_.contains(name),
                  "{} is not a field that is known here (variables of the chat template belong into "
                  "chat_template_kwargs)",
                  name);
  }

 private:
  const Json& json_;
  std::set<std::string> known_;
};

void read_prompt(Line& line, GenerationTask& task) {
  int prompts = 0;
  if (const Json* v = line.find("prompt")) {
    const bool ids = v->is_array() && !v->empty() && v->front().is_number();
    HADAL_CHECK(v->is_string() || ids, "prompt is {}, a string or a list of token ids was expected", v->dump());
    if (ids)
      line.ids("prompt", task.prompt_ids);
    else
      task.text = v->get<std::string>();
    ++prompts;
  }
  if (const Json* v = line.find("messages")) {
    HADAL_CHECK(v->is_array(), "messages is not a list");
    HADAL_CHECK(!v->empty(), "messages is empty");
    for (std::size_t i = 0; i < v->size(); ++i)
      HADAL_CHECK((*v)[i].is_object(), "messages[{}] is {}, an object was expected", i, (*v)[i].dump());
    task.messages = *v;
    ++prompts;
  }
  if (line.find("prompt_ids")) {
    line.ids("prompt_ids", task.prompt_ids);
    HADAL_CHECK(!task.prompt_ids.empty(), "prompt_ids is empty");
    ++prompts;
  }
  HADAL_CHECK(prompts == 1, "exactly one of prompt, messages and prompt_ids was expected");
  if (const Json* v = line.find("tools")) {
    HADAL_CHECK(v->is_array(), "tools is not a list");
    task.tools = *v;
  }
}

// {"role": "assistant", "content": "The answer is", "prefix": true} as the last message: go on from there.
bool ends_with_prefix(const Json& messages) {
  return !messages.empty() && messages.back().value("role", Json()) == "assistant" &&
         messages.back().value("prefix", Json()) == true;
}

void read_template_options(Line& line, GenerationTask& task) {
  tokenizer::RenderOptions& r = task.render;
  r.continue_final_message = !task.messages.is_null() && ends_with_prefix(task.messages);
  line.flag("add_generation_prompt", r.add_generation_prompt);
  line.flag("continue_final_message", r.continue_final_message);
  if (const Json* v = line.find("chat_template")) {
    HADAL_CHECK(v->is_string() && v->get_ref<const std::string&>().find('{') == std::string::npos,
                "chat_template is not the name of one of the model's templates; a template inside a request is not "
                "supported");
    r.template_name = v->get<std::string>();
  }
  if (const Json* v = line.find("documents")) {
    HADAL_CHECK(v->is_array(), "documents is not a list");
    r.variables["documents"] = *v;
  }
  if (const Json* v = line.find("chat_template_kwargs")) {
    HADAL_CHECK(v->is_object(), "chat_template_kwargs is {}, an object was expected", v->dump());
    for (const auto& [name, value] : v->items()) r.variables[name] = value;
  }
}

void read_sampling(Line& line, GenerationTask& task) {
  infer::SamplingParams& s = task.sampling;
  line.number("temperature", s.temperature);
  line.number("top_p", s.top_p);
  line.number("min_p", s.min_p);
  line.number("repetition_penalty", s.repetition_penalty);
  line.number("presence_penalty", s.presence_penalty);
  line.number("frequency_penalty", s.frequency_penalty);
  line.integer("top_k", s.top_k, -1, INT32_MAX);
  s.top_k = std::max<Index>(s.top_k, 0);  // others write -1 for all
  line.integer("seed", s.seed, INT64_MIN / 2, INT64_MAX / 2);
  bool logprobs = false;
  line.flag("logprobs", logprobs);
  if (logprobs) s.top_logprobs = 0;
  line.integer("top_logprobs", s.top_logprobs, 0, 20);
  if (const Json* v = line.find("logit_bias")) {
    HADAL_CHECK(v->is_object(), "logit_bias is not an object of token ids");
    for (const auto& [key, bias] : v->items()) {
      HADAL_CHECK(
          !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == key.npos && bias.is_number(),
          "logit_bias has \"{}\": {}, a token id and a number were expected", key, bias.dump());
      s.logit_bias[static_cast<config::TokenId>(std::stol(key))] = bias.get<double>();
    }
  }
  infer::validate(s);
}

void parse_object(const Json& json, GenerationTask& task) {
  Line line(json);
  line.ignore({"id", "custom_id"});
  read_prompt(line, task);
  read_template_options(line, task);
  read_sampling(line, task);
  line.integer("max_tokens", task.max_tokens, 1, INT32_MAX);
  line.integer("max_completion_tokens", task.max_tokens, 1, INT32_MAX);
  line.strings("stop", task.stop);
  line.ids("stop_token_ids", task.stop_token_ids);
  line.flag("ignore_eos", task.ignore_eos);
  line.flag("raw", task.raw);
  line.integer("n", task.n, 1, 128);
  line.ignore({"model", "user", "metadata", "store", "service_tier", "parallel_tool_calls", "stream_options"});
  line.only("stream", {false});
  line.only("tool_choice", {"auto"});
  line.only("response_format", {Json{{"type", "text"}}});
  line.check_unknown();
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
