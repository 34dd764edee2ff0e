// hadal verify
#include "hadal/checkpoint/verify.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "hadal/cli/byte_progress.h"
#include "hadal/cli/commands.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"
#include "hadal/io/generation_config.h"
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

using checkpoint::Check;

void check_tokenizer(const std::filesystem::path& directory, checkpoint::Verification& out) {
  const auto t = tokenizer::Tokenizer::load(directory);
  if (out.config && t.vocab_size() > out.config->vocab_size)
    out.add(Check::kTokenizer,
            fmt::format("tokenizer: has ids up to {}, vocab_size is {}", t.vocab_size() - 1, out.config->vocab_size));
  for (const std::string text : {"Hello, world! 12345", "naïve 日本語 🙂\n\n  x", "\xFF\xFE<｜User｜>"})
    if (t.decode(t.encode(text)) != text)
      out.add(Check::kTokenizer, "tokenizer: decoding what it encodes gives other bytes");
  for (const auto& [name, token] : {std::pair{"bos_token", t.config().bos_token}, {"eos_token", t.config().eos_token}})
    if (!token.empty() && !t.added_token(token))
      out.add(Check::kSpecialIds, fmt::format("tokenizer_config.json: {} {} is not a token", name, token));
}

void check_template(const std::filesystem::path& directory, checkpoint::Verification& out) {
  const auto t = tokenizer::ChatTemplate::load(directory);
  const Json messages = Json::parse(
      R"([{"role": "user", "content": "ping?"}, {"role": "assistant", "content": "pong"}, {"role": "user", "content": "again"}])");
  const std::string text = t.render(messages, nullptr, {.add_generation_prompt = true}).text;
  for (const char* part : {"ping?", "pong", "again"})
    if (text.find(part) == std::string::npos)
      out.add(Check::kChatTemplate, fmt::format("chat template: a message \"{}\" is not in the prompt", part));
}

void check_generation_config(const std::filesystem::path& directory, checkpoint::Verification& out) {
  for (const auto id : io::load_generation_config(directory).eos_token_ids)
    if (out.config && id >= out.config->vocab_size)
      out.add(Check::kSpecialIds, fmt::format("generation_config.json: eos_token_id {} is not below vocab_size {}", id,
                                              out.config->vocab_size));
}

checkpoint::Verification verify(const Options& o) {
  const std::filesystem::path directory = o.model;
  Context ctx(o.threads);
  checkpoint::Verification out = checkpoint::verify_weights(ctx, directory, o.quick, ByteProgress("reading"));
  if (tokenizer::Tokenizer::exists(directory))
    out.attempt(Check::kTokenizer, [&] { check_tokenizer(directory, out); });
  else
    out.notes.push_back("there is no tokenizer; prompts must be token ids");
  out.attempt(Check::kSpecialIds, [&] { check_generation_config(directory, out); });
  bool has_template = true;
  out.attempt(Check::kChatTemplate, [&] {
    has_template = tokenizer::ChatTemplate::exists(directory);
    if (has_template) check_template(directory, out);
  });
  if (!has_template) {
    out.done.erase(Check::kChatTemplate);
    out.notes.push_back("there is no chat template; chat needs one");
  }
  if (out.config)
    for (const std::string& field : out.config->unknown_fields)
      out.notes.push_back("config.json: field " + field + " is not known and has no effect");
  return out;
}

std::string status_of(const checkpoint::Verification& v, Check check) {
  const auto count =
      std::count_if(v.findings.begin(), v.findings.end(), [&](const auto& f) { return f.check == check; });
  if (count > 0) return fmt::format("{} finding{}", count, count == 1 ? "" : "s");
  return v.done.contains(check) ? "ok" : "not checked";
}

void print_json(const checkpoint::Verification& v) {
  Json checks = Json::object(), findings = Json::array();
  for (const Check check : checkpoint::kAllChecks)
    checks[std::string(checkpoint::check_name(check))] = status_of(v, check);
  for (const auto& f : v.findings)
    findings.push_back({{"check", checkpoint::check_name(f.check)}, {"finding", f.text}});
  const Json report = {{"ok", v.findings.empty()}, {"tensors", v.tensors}, {"bytes", v.bytes},
                       {"checks", checks},         {"findings", findings}, {"notes", v.notes}};
  print(report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void print_table(const checkpoint::Verification& v) {
  for (const Check check : checkpoint::kAllChecks)
    print(fmt::format("{:16}{}\n", checkpoint::check_name(check), status_of(v, check)));
  print(fmt::format("\n{} tensors, {} bytes: {}\n", v.tensors, v.bytes,
                    v.findings.empty() ? "nothing wrong was found" : fmt::format("{} findings", v.findings.size())));
  for (const auto& f : v.findings) print(fmt::format("  {}: {}\n", checkpoint::check_name(f.check), f.text));
  for (const std::string& n : v.notes) print("  note: " + n + "\n");
}

int run(const Options& o) {
  const checkpoint::Verification result = verify(o);
  if (o.json)
    print_json(result);
  else
    print_table(result);
  return result.findings.empty() ? 0 : 1;
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
      "Exit code 0: nothing found, 1: findings (a sentence each), 2: not a directory, or one that cannot be "
      "read.\n\nExample:\n  hadal verify "
      "models/mini");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
