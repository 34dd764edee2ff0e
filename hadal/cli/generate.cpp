// hadal generate
#include <CLI/CLI.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "hadal/chat/markup.h"
#include "hadal/chat/switches.h"
#include "hadal/cli/commands.h"
#include "hadal/cli/expert_stats.h"
#include "hadal/cli/generation_task.h"
#include "hadal/cli/id_list.h"
#include "hadal/cli/interrupt.h"
#include "hadal/cli/result_file.h"
#include "hadal/cli/standard_error.h"
#include "hadal/cli/terminal.h"
#include "hadal/cli/text_model.h"
#include "hadal/core/log.h"
#include "hadal/io/json.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::ordered_json;

// Enough for an answer, and an end for a model that finds none.
constexpr Index kDefaultMaxTokens = 1024;
constexpr int kSomeFailed = 1;

struct GenerateCommand {
  std::string model, prompt, prompt_ids, input, output;
  ComputeOptions compute;
  SamplingOptions sampling;
  TemplateOptions chat_template;
  bool raw = false, fail_fast = false;
  Index batch = 1;
};

std::vector<GenerationTask> read_tasks(const GenerateCommand& o, const TextModel& model) {
  GenerationTask task;
  task.sampling = o.sampling.params(model.defaults());
  task.max_tokens = o.sampling.max_tokens.value_or(kDefaultMaxTokens);
  task.stop = o.sampling.stop;
  task.raw = o.raw;
  task.render = o.chat_template.render();
  task.render.add_generation_prompt = true;
  if (o.input == "-") return parse_tasks(read_stdin(), "stdin", task);
  if (!o.input.empty()) return parse_tasks(io::read_text_file(o.input), o.input, task);
  task.id = 1;
  task.text = o.prompt;
  if (!o.prompt_ids.empty()) task.prompt_ids = parse_ids(o.prompt_ids, "--prompt-ids");
  return {task};
}

struct TaskPrompt {
  std::vector<config::TokenId> ids;
  bool thinking_open = false;
  std::optional<std::size_t> budget = {};  // of the thought
};

TaskPrompt prompt_of(const GenerationTask& task, const TextModel& model) {
  if (!task.prompt_ids.empty()) return {task.prompt_ids};
  if (task.raw && task.messages.is_null()) return {model.encode_raw(task.text)};
  const Json messages =
      task.messages.is_null() ? Json::array({{{"role", "user"}, {"content", task.text}}}) : task.messages;
  const chat::ThinkingSwitches switches = chat::read_switches(task.switches, model.chat_template());
  tokenizer::RenderOptions render = task.render;
  for (const auto& [name, value] : switches.variables.items()) render.variables[name] = value;
  const tokenizer::Prompt prompt = model.chat_template().render(messages, task.tools, render);
  const bool open = chat::thinking_open(prompt);
  return {model.tokenizer().encode(prompt), open, switches.budget_of(open)};
}

infer::Request make_request(const GenerationTask& task, const TextModel& model) {
  infer::Request request;
  const TaskPrompt prompt = prompt_of(task, model);
  request.prompt = prompt.ids;
  request.sampling = task.sampling;
  request.max_tokens = task.max_tokens;
  request.min_tokens = task.min_tokens;
  request.stop_token_ids = task.stop_token_ids;
  if (!task.ignore_eos)
    request.stop_token_ids.insert(request.stop_token_ids.end(), model.end_tokens().begin(), model.end_tokens().end());
  if (task.guided || prompt.budget)
    request.constraint =
        model.constraint({.guided = task.guided, .thinking_open = prompt.thinking_open, .budget = prompt.budget},
                         request.stop_token_ids);
  model.check(request);
  return request;
}

// A request for each task that can be answered; the others get their fault. Throws if no task can be answered for want
// of something that the model has not.
std::vector<infer::Request> make_requests(std::vector<GenerationTask>& tasks, const TextModel& model) {
  std::vector<infer::Request> requests(tasks.size());
  std::string missing;
  std::size_t good = 0;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (!tasks[i].fault.empty()) continue;
    try {
      requests[i] = make_request(tasks[i], model);
      ++good;
    } catch (const InvalidRequest& e) {
      tasks[i].fault = e.what();
    } catch (const Error& e) {
      tasks[i].fault = missing = e.what();
    }
    if (!tasks[i].fault.empty()) tasks[i].n = 1;
  }
  HADAL_CHECK(good > 0 || missing.empty(), "{}", missing);
  return requests;
}

// Says on stderr what cannot be answered; throws for the first with --fail-fast, and if the prompt is no line of a
// file.
int report_faults(const GenerateCommand& o, const std::vector<GenerationTask>& tasks) {
  constexpr int kMostSentences = 20;
  int faults = 0;
  for (const GenerationTask& task : tasks) {
    if (task.fault.empty()) continue;
    if (o.input.empty()) throw InvalidRequest(task.fault);
    const std::string sentence = sentence_about(task, task.fault);
    if (o.fail_fast) throw InvalidRequest(sentence);
    if (++faults <= kMostSentences) to_stderr(fmt::format("hadal: {}\n", sentence));
  }
  if (faults > kMostSentences) to_stderr(fmt::format("hadal: {} more lines cannot be answered\n", faults - kMostSentences));
  return faults;
}

Json token_logprob(const TextModel& model, config::TokenId id, double logprob) {
  Json out = {{"id", id}};
  if (model.has_tokenizer()) out["token"] = model.tokenizer().token_bytes(id);
  out["logprob"] = logprob;
  return out;
}

Json logprobs(const TextModel& model, const std::vector<infer::Sample>& samples) {
  Json content = Json::array();
  for (const infer::Sample& s : samples) {
    Json token = token_logprob(model, s.id, s.logprob);
    token["top_logprobs"] = Json::array();
    for (const infer::TokenLogprob& t : s.top) token["top_logprobs"].push_back(token_logprob(model, t.id, t.logprob));
    content.push_back(std::move(token));
  }
  return {{"content", std::move(content)}};
}

Json result_of(const GenerationTask& task, int choice, const TextModel& model, const TextAnswer& answer) {
  Json result = {{"id", task.id}};
  if (task.n > 1) result["choice"] = choice;
  result["text"] = model.has_tokenizer() ? Json(answer.text) : Json();
  result["tokens"] = answer.completion.tokens;
  result["finish_reason"] = infer::finish_reason_name(answer.completion.finish_reason);
  const auto prompt = answer.completion.prompt_tokens, completion = static_cast<Index>(answer.completion.tokens.size());
  result["usage"] = {
      {"prompt_tokens", prompt}, {"completion_tokens", completion}, {"total_tokens", prompt + completion}};
  if (task.sampling.top_logprobs >= 0) result["logprobs"] = logprobs(model, answer.samples);
  return result;
}

void check_belongs(const ResultFile& results, const std::vector<GenerationTask>& tasks, const std::string& output) {
  std::set<std::string> wanted;
  for (const GenerationTask& task : tasks)
    for (int choice = 0; choice < task.n; ++choice) wanted.insert(ResultFile::key(task.id, choice));
  for (const std::string& key : results.done())
    HADAL_CHECK(wanted.contains(key), "{}: has a result for id {}, which the input has not; name another --output",
                output, key.substr(0, key.rfind('#')));
}

Json error_of(const GenerationTask& task) {
  return {{"id", task.id},
          {"error", {{"message", sentence_about(task, task.fault)}, {"type", "invalid_request_error"}}}};
}

// What is still to be answered, in the order of the input: a request for each missing result, errors for what failed.
struct Work {
  struct Owner {
    const GenerationTask* task;
    int choice;
    std::size_t place;  // among all lines to be written
  };
  std::vector<infer::Request> requests;
  std::vector<Owner> whose;  // of each request
  std::vector<std::pair<std::size_t, const GenerationTask*>> failed;
};

Work make_work(const std::vector<GenerationTask>& tasks, std::vector<infer::Request> requests,
               const ResultFile& results) {
  Work work;
  std::size_t place = 0;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (!tasks[i].fault.empty()) work.failed.emplace_back(place++, &tasks[i]);
    for (int choice = 0; tasks[i].fault.empty() && choice < tasks[i].n; ++choice) {
      if (results.done().contains(ResultFile::key(tasks[i].id, choice))) continue;
      const bool last = choice + 1 == tasks[i].n;
      work.requests.push_back(last ? std::move(requests[i]) : requests[i]);
      infer::Request& request = work.requests.back();
      request.choice = static_cast<std::uint64_t>(choice);
      if (request.constraint) request.constraint = request.constraint->clone();
      work.whose.push_back({&tasks[i], choice, place++});
    }
  }
  return work;
}

// Results in the order of the input: what ends early waits for those before it.
class OrderedResults {
 public:
  explicit OrderedResults(ResultFile& file) : file_(file) {}
  void add(std::size_t index, Json result) {
    waiting_.emplace(index, std::move(result));
    while (!waiting_.empty() && waiting_.begin()->first == next_) write_first();
  }
  // After an interruption nothing that was finished is lost, in order or not.
  void finish() {
    while (!waiting_.empty()) write_first();
    file_.finish();
  }

 private:
  void write_first() {
    next_ = waiting_.begin()->first + 1;
    file_.append(waiting_.extract(waiting_.begin()).mapped());
  }

  ResultFile& file_;
  std::map<std::size_t, Json> waiting_;
  std::size_t next_ = 0;
};

int run(const GenerateCommand& o) {
  const int sources = !o.input.empty() + !o.prompt.empty() + !o.prompt_ids.empty();
  HADAL_CHECK(sources == 1, "generate: give one of --prompt, --prompt-ids and --input");
  TextModel model(o.model, o.compute);
  const StatsAtEnd stats(o.compute.stats, model.store(), [&] { return describe(model.speculation()); });
  if (!o.chat_template.thinking.empty() && !model.chat_template().mentions("thinking"))
    log_warning("--thinking: the model's chat template has no switch for thinking");
  auto tasks = read_tasks(o, model);
  // All prompts are made before the first answer, so that bad ones are known at once.
  auto requests = make_requests(tasks, model);
  const int faults = report_faults(o, tasks);
  ResultFile file(o.output);
  check_belongs(file, tasks, o.output);
  const Work work = make_work(tasks, std::move(requests), file);
  OrderedResults results(file);
  for (const auto& [place, task] : work.failed) results.add(place, error_of(*task));
  ProgressBar progress("answers", work.requests.size());
  std::uint64_t done = 0;
  try {
    const auto stops = [&](std::size_t i) -> const std::vector<std::string>& { return work.whose[i].task->stop; };
    model.answer_all(work.requests, stops, o.batch, [&](std::size_t i, const TextAnswer& answer) {
      const auto [task, choice, place] = work.whose[i];
      results.add(place, result_of(*task, choice, model, answer));
      progress.update(++done);
    });
  } catch (const Interrupted&) {
    results.finish();
    throw Interrupted(
        fmt::format("interrupted; what was finished is kept{}", o.output.empty() ? "" : ", run again to go on"));
  } catch (...) {
    results.finish();
    throw;
  }
  results.finish();
  return faults > 0 ? kSomeFailed : 0;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  static GenerateCommand o;
  CLI::App* command =
      app.add_subcommand("generate", "Answer one prompt or a file of prompts; JSON lines out, resumable");
  command->add_option("MODEL", o.model, "Model directory")->required();
  command->add_option("--prompt", o.prompt, "A user's message");
  command->add_option("--prompt-ids", o.prompt_ids, "Token ids as they are: 1,2,3 (needs no tokenizer)");
  command->add_option("--input", o.input,
                      "File (- for stdin): a prompt a line, or JSON lines {\"id\", \"prompt\" | \"messages\" | "
                      "\"prompt_ids\", sampling, response_format and others as the server takes them}; lines of "
                      "OpenAI's batch files are taken too");
  command->add_option(
      "--output", o.output,
      "File for the results (default: stdout); results that are there are kept, missing ones are added");
  command
      ->add_option("--batch", o.batch,
                   "Answers worked on together (default 1); changes no bit of a result, each needs a cache")
      ->check(CLI::Range(1, 4096));
  command->add_flag("--raw", o.raw, "Prompts go to the model after BOS, without the chat template");
  command->add_flag("--fail-fast", o.fail_fast,
                    "Refuse the whole file for its first bad line (default: that line is answered with {\"id\", "
                    "\"error\"}, the others run, exit code 1)");
  o.chat_template.add_to(*command);
  o.sampling.add_to(*command);
  o.compute.add_to(*command);
  o.compute.add_sequence_to(*command);
  o.compute.add_memory_to(*command);
  o.compute.add_disk_to(*command);
  o.compute.add_speculate_to(*command);
  command->footer(
      "A last message {\"role\": \"assistant\", \"content\": ..., \"prefix\": true} is continued. Lines of --input, "
      "for instance:\n"
      "  {\"id\": \"a\", \"prompt\": \"What is 7 times 8?\", \"temperature\": 0}\n"
      "  {\"id\": \"b\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"chat_template_kwargs\": "
      "{\"thinking\": true}}\n"
      "  {\"custom_id\": \"c\", \"body\": {\"messages\": [...], \"tools\": [...], \"max_tokens\": 100}}\n\n"
      "Example:\n  hadal generate models/mini --prompt 'What is 7 times 8?' --temperature 0\n  hadal generate "
      "models/mini --input prompts.jsonl --output answers.jsonl");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
