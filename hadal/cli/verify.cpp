// hadal verify
#include "hadal/checkpoint/verify.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "hadal/cli/byte_progress.h"
#include "hadal/cli/commands.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"
#include "hadal/io/generation_config.h"
#include "hadal/model/config.h"
#include "hadal/tokenizer/chat_template.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string model;
  bool json = false, quick = false;
  int threads = 0;
};

void check_tokenizer(const std::filesystem::path& directory, const model::Config& config,
                     checkpoint::Verification& out) {
  if (!tokenizer::Tokenizer::exists(directory))
    return out.notes.push_back("there is no tokenizer; prompts must be token ids");
  const auto t = tokenizer::Tokenizer::load(directory);
  if (t.vocab_size() > config.vocab_size)
    out.findings.push_back(
        fmt::format("tokenizer: has ids up to {}, vocab_size is {}", t.vocab_size() - 1, config.vocab_size));
  for (const std::string text : {"Hello, world! 12345", "naïve 日本語 🙂\n\n  x", "\xFF\xFE<｜User｜>"})
    if (t.decode(t.encode(text)) != text)
      out.findings.push_back("tokenizer: decoding what it encodes gives other bytes");
  for (const auto& [name, token] : {std::pair{"bos_token", t.config().bos_token}, {"eos_token", t.config().eos_token}})
    if (!token.empty() && !t.added_token(token))
      out.findings.push_back(fmt::format("tokenizer_config.json: {} {} is not a token", name, token));
}

void check_template(const std::filesystem::path& directory, checkpoint::Verification& out) {
  if (!tokenizer::ChatTemplate::exists(directory))
    return out.notes.push_back("there is no chat template; chat needs one");
  const auto t = tokenizer::ChatTemplate::load(directory);
  const Json messages = Json::parse(
      R"([{"role": "user", "content": "ping?"}, {"role": "assistant", "content": "pong"}, {"role": "user", "content": "again"}])");
  const std::string text = t.render(messages, nullptr, {.add_generation_prompt = true}).text;
  for (const char* part : {"ping?", "pong", "again"})
    if (text.find(part) == std::string::npos)
      out.findings.push_back(fmt::format("chat template: a message \"{}\" is not in the prompt", part));
}

int run(const Options& o) {
  Context ctx(o.threads);
  checkpoint::Verification result = checkpoint::verify_weights(ctx, o.model, o.quick, ByteProgress("reading"));
  const model::Config config = model::load_config(o.model);
  const auto attempt = [&](const auto& check) {
    try {
      check();
    } catch (const Error& e) {
      result.findings.emplace_back(e.what());
    }
  };
  attempt([&] { check_tokenizer(o.model, config, result); });
  attempt([&] { check_template(o.model, result); });
  attempt([&] {
    for (const auto id : io::load_generation_config(o.model).eos_token_ids)
      if (id >= config.vocab_size)
        result.findings.push_back(
            fmt::format("generation_config.json: eos_token_id {} is not below vocab_size {}", id, config.vocab_size));
  });
  for (const std::string& field : config.unknown_fields)
    result.notes.push_back("config.json: field " + field + " is not known and has no effect");
  const bool good = result.findings.empty();
  if (o.json) {
    print(Json{{"ok", good},
               {"tensors", result.tensors},
               {"bytes", result.bytes},
               {"findings", result.findings},
               {"notes", result.notes}}
              .dump(2) +
          "\n");
  } else {
    for (const std::string& f : result.findings) print(f + "\n");
    for (const std::string& n : result.notes) print("note: " + n + "\n");
    print(fmt::format("{} tensors, {} bytes: {}\n", result.tensors, result.bytes,
                      good ? "nothing wrong was found" : fmt::format("{} findings", result.findings.size())));
  }
  return good ? 0 : 1;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  static Options o;
  CLI::App* command = app.add_subcommand(
      "verify", "What is wrong with a model directory: shapes, scales, damaged values, tokenizer, template");
  command->add_option("MODEL", o.model, "Model directory")->required();
  command->add_flag("--quick", o.quick, "Read headers only, not the values");
  command->add_flag("--json", o.json, "Print as JSON");
  command->add_option("--threads", o.threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  command->footer(
      "Exit code 0: nothing found, 1: findings (a sentence each), 2: cannot be read.\n\nExample:\n  hadal verify "
      "models/mini");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
