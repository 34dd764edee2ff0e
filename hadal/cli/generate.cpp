// hadal generate
#include <CLI/CLI.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "hadal/cli/commands.h"
#include "hadal/cli/expert_stats.h"
#include "hadal/cli/generation_task.h"
#include "hadal/cli/id_list.h"
#include "hadal/cli/interrupt.h"
#include "hadal/cli/result_file.h"
#include "hadal/cli/terminal.h"
#include "hadal/cli/text_model.h"
#include "hadal/io/json.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::ordered_json;

// Enough for an answer, and an end for a model that finds none.
constexpr Index kDefaultMaxTokens = 1024;

struct Options {
  std::string model, prompt, prompt_ids, input, output;
  ComputeOptions compute;
  SamplingOptions sampling;
  bool raw = false;
  Index batch = 1;
};

std::vector<GenerationTask> read_tasks(const Options& o, const TextModel& model) {
  TaskDefaults defaults{.sampling = o.sampling.params(model.defaults()),
                        .max_tokens = o.sampling.max_tokens.value_or(kDefaultMaxTokens),
                        .stop = o.sampling.stop,
                        .raw = o.raw};
  if (!o.input.empty())
    return parse_tasks(o.input == "-" ? read_stdin() : io::read_text_file(o.input), o.input == "-" ? "stdin" : o.input,
                       defaults);
  GenerationTask task;
  task.id = 1;
  task.text = o.prompt;
  if (!o.prompt_ids.empty()) task.prompt_ids = parse_ids(o.prompt_ids, "--prompt-ids");
  task.raw = o.raw;
  task.sampling = defaults.sampling;
  task.max_tokens = defaults.max_tokens;
  task.stop = defaults.stop;
  return {task};
}

// {"role": "assistant", "content": "The answer is", "prefix": true} as the last message: go on from there.
bool ends_with_prefix(const Json& messages) {
  return !messages.empty() && messages.back().value("role", Json()) == "assistant" &&
         messages.back().value("prefix", Json()) == true;
}

infer::Request make_request(const GenerationTask& task, const TextModel& model) {
  infer::Request request;
  if (!task.prompt_ids.empty())
    request.prompt = task.prompt_ids;
  else if (!task.messages.is_null())
    request.prompt = model.encode_messages(
        task.messages, task.tools,
        {.add_generation_prompt = true, .continue_final_message = ends_with_prefix(task.messages)});
  else if (task.raw)
    request.prompt = model.encode_raw(task.text);
  else
    request.prompt = model.encode_messages(Json::array({{{"role", "user"}, {"content", task.text}}}), task.tools,
                                           {.add_generation_prompt = true});
  request.sampling = task.sampling;
  request.max_tokens = task.max_tokens;
  request.stop_token_ids = task.stop_token_ids;
  if (!task.ignore_eos)
    request.stop_token_ids.insert(request.stop_token_ids.end(), model.end_tokens().begin(), model.end_tokens().end());
  return request;
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

// What is still to be answered: a request for each missing result, in the order of the input.
struct Work {
  std::vector<TextRequest> requests;
  std::vector<std::pair<const GenerationTask*, int>> whose;  // task and choice
};

Work make_work(const std::vector<GenerationTask>& tasks, const std::vector<infer::Request>& requests,
               const ResultFile& results) {
  Work work;
  for (std::size_t i = 0; i < tasks.size(); ++i)
    for (int choice = 0; choice < tasks[i].n; ++choice) {
      if (results.done().contains(ResultFile::key(tasks[i].id, choice))) continue;
      work.requests.push_back({requests[i], tasks[i].stop});
      work.requests.back().request.choice = static_cast<std::uint64_t>(choice);
      work.whose.emplace_back(&tasks[i], choice);
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

int run(const Options& o) {
  const int sources = !o.input.empty() + !o.prompt.empty() + !o.prompt_ids.empty();
  HADAL_CHECK(sources == 1, "generate: give one of --prompt, --prompt-ids and --input");
  TextModel model(o.model, o.compute);
  const StatsAtEnd stats(o.compute.stats, model.store());
  const auto tasks = read_tasks(o, model);
  // All prompts are made before the first answer, so that a bad one is known at once.
  std::vector<infer::Request> requests;
  for (const GenerationTask& task : tasks) requests.push_back(make_request(task, model));
  ResultFile file(o.output);
  check_belongs(file, tasks, o.output);
  const Work work = make_work(tasks, requests, file);
  OrderedResults results(file);
  ProgressBar progress("answers", work.requests.size());
  std::uint64_t done = 0;
  try {
    model.answer_all(work.requests, o.batch, [&](std::size_t i, const TextAnswer& answer) {
      const auto [task, choice] = work.whose[i];
      results.add(i, result_of(*task, choice, model, answer));
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
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  static Options o;
  CLI::App* command =
      app.add_subcommand("generate", "Answer one prompt or a file of prompts; JSON lines out, resumable");
  command->add_option("MODEL", o.model, "Model directory")->required();
  command->add_option("--prompt", o.prompt, "A user's message");
  command->add_option("--prompt-ids", o.prompt_ids, "Token ids as they are: 1,2,3 (needs no tokenizer)");
  command->add_option("--input", o.input,
                      "File (- for stdin): a prompt a line, or JSON lines {\"id\", \"prompt\" | \"messages\" | "
                      "\"prompt_ids\", sampling in OpenAI's names}");
  command->add_option(
      "--output", o.output,
      "File for the results (default: stdout); results that are there are kept, missing ones are added");
  command
      ->add_option("--batch", o.batch,
                   "Answers worked on together (default 1); changes no bit of a result, each needs a cache")
      ->check(CLI::Range(1, 4096));
  command->add_flag("--raw", o.raw, "Prompts go to the model after BOS, without the chat template");
  o.sampling.add_to(*command);
  o.compute.add_to(*command);
  o.compute.add_sequence_to(*command);
  o.compute.add_memory_to(*command);
  command->footer(
      "A last message {\"role\": \"assistant\", \"content\": ..., \"prefix\": true} is continued.\n\n"
      "Example:\n  hadal generate models/mini --prompt 'What is 7 times 8?' --temperature 0\n  hadal generate "
      "models/mini --input prompts.jsonl --output answers.jsonl");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
