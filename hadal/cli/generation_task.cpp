#include "hadal/cli/generation_task.h"

#include <cmath>
#include <set>

#include "hadal/core/error.h"
#include "hadal/io/json.h"

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
      HADAL_CHECK(known_.contains(name), "{} is not a field that is known here", name);
  }

 private:
  const Json& json_;
  std::set<std::string> known_;
};

void read_prompt(Line& line, GenerationTask& task) {
  int prompts = 0;
  if (const Json* v = line.find("prompt")) {
    HADAL_CHECK(v->is_string(), "prompt is {}, a string was expected", v->dump());
    task.text = v->get<std::string>();
    ++prompts;
  }
  if (const Json* v = line.find("messages")) {
    HADAL_CHECK(v->is_array(), "messages is not a list");
    for (const Json& m : *v) HADAL_CHECK(m.is_object(), "messages holds {}, an object was expected", m.dump());
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

void read_sampling(Line& line, GenerationTask& task) {
  infer::SamplingParams& s = task.sampling;
  line.number("temperature", s.temperature);
  line.number("top_p", s.top_p);
  line.number("min_p", s.min_p);
  line.number("repetition_penalty", s.repetition_penalty);
  line.number("presence_penalty", s.presence_penalty);
  line.number("frequency_penalty", s.frequency_penalty);
  line.integer("top_k", s.top_k, 0, INT32_MAX);
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

GenerationTask parse_object(const Json& json, GenerationTask task) {
  Line line(json);
  if (const Json* id = line.find("id")) task.id = *id;
  read_prompt(line, task);
  read_sampling(line, task);
  line.integer("max_tokens", task.max_tokens, 1, INT32_MAX);
  line.strings("stop", task.stop);
  line.ids("stop_token_ids", task.stop_token_ids);
  line.flag("ignore_eos", task.ignore_eos);
  line.flag("raw", task.raw);
  line.integer("n", task.n, 1, 128);
  line.check_unknown();
  return task;
}

}  // namespace

std::vector<GenerationTask> parse_tasks(const std::string& input, const std::string& where,
                                        const TaskDefaults& defaults) {
  std::vector<GenerationTask> tasks;
  std::string faults;
  std::set<std::string> ids;
  std::size_t at = 0;
  for (std::int64_t number = 1; at < input.size(); ++number) {
    const std::size_t end = std::min(input.find('\n', at), input.size());
    std::string line = input.substr(at, end - at);
    at = end + 1;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    const std::string place = fmt::format("{}, line {}", where, number);
    try {
      GenerationTask task;
      task.id = number;
      task.sampling = defaults.sampling;
      task.max_tokens = defaults.max_tokens;
      task.stop = defaults.stop;
      task.raw = defaults.raw;
      if (line[0] == '{') {
        task = parse_object(io::parse_json(line, place), std::move(task));
      } else {
        task.text = line;
      }
      HADAL_CHECK(ids.insert(task.id.dump()).second, "id {} occurs twice", task.id.dump());
      tasks.push_back(std::move(task));
    } catch (const Error& e) {
      const std::string what = e.what();
      faults += (faults.empty() ? "" : "\n") + (what.starts_with(place) ? what : place + ": " + what);
    }
  }
  if (!faults.empty()) throw Error(faults);
  return tasks;
}

}  // namespace hadal::cli
