// hadal verify
#include "hadal/checkpoint/verify.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "hadal/cli/byte_progress.h"
#include "hadal/cli/commands.h"
#include "hadal/cli/options.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"
#include "hadal/io/generation_config.h"
#include "hadal/io/json.h"
#include "hadal/serve/end_tokens.h"
#include "hadal/tokenizer/chat_template.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::ordered_json;

struct VerifyCommand {
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

// Added tokens that tokenizer_config.json alone knows.
void check_added_tokens(const std::filesystem::path& directory, checkpoint::Verification& out) {
  const auto file = directory / "tokenizer_config.json";
  std::error_code status;
  if (!std::filesystem::exists(file, status)) return;
  const Json json = io::read_json_file(file);
  const auto tokens = json.is_object() ? json.find("added_tokens_decoder") : json.end();
  if (tokens == json.end() || !tokens->is_object()) return;
  const auto t = tokenizer::Tokenizer::load(directory);
  for (const auto& [id, token] : tokens->items()) {
    if (!token.is_object() || !token.contains("content") || !token["content"].is_string()) continue;
    const auto content = token["content"].get<std::string>();
    const auto known = t.added_token(content);
    if (!known)
      out.add(Check::kSpecialIds, fmt::format("tokenizer_config.json: {} ({}) is an added token there alone, the "
                                              "tokenizer's own file does not know it",
                                              content, id));
    else if (std::to_string(*known) != id)
      out.add(Check::kSpecialIds, fmt::format("tokenizer_config.json: {} is {} there, {} in the tokenizer's own file",
                                              content, id, *known));
  }
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

// A template that ends the assistant's turn with a token that ends no answer: others go on to make up the user's turn.
void check_end_of_turn(const std::filesystem::path& directory, checkpoint::Verification& out) {
  if (!out.config || !tokenizer::Tokenizer::exists(directory)) return;
  const auto tokenizer = tokenizer::Tokenizer::load(directory);
  const serve::EndTokens ends = serve::end_tokens(io::load_generation_config(directory), *out.config, &tokenizer);
  const auto end = serve::end_of_turn(tokenizer::ChatTemplate::load(directory), tokenizer);
  if (!end || std::find(ends.ids.begin(), ends.ids.end(), *end) != ends.ids.end()) return;
  std::string ids;
  for (const auto id : ends.ids) ids += fmt::format("{}{}", ids.empty() ? "" : ", ", id);
  out.add(Check::kChatTemplate,
          fmt::format("chat template: ends the assistant's turn with {} ({}), but eos_token_id is {}",
                      tokenizer.token_bytes(*end), *end,
                      ids.empty() ? "nowhere stated" : fmt::format("{} in {}", ids, ends.source)));
}

void check_generation_config(const std::filesystem::path& directory, checkpoint::Verification& out) {
  const io::GenerationConfig generation = io::load_generation_config(directory);
  for (const std::string& field : generation.unused_fields)
    out.notes.push_back("generation_config.json: " + field + " has no effect");
  if (!generation.do_sample && (generation.temperature || generation.top_p || generation.top_k))
    out.notes.push_back(
        "generation_config.json: do_sample is not stated; its temperature, top_p and top_k are used here, transformers "
        "chooses greedily then");
  try {
    SamplingOptions().params(generation);
  } catch (const Error& e) {
    out.add(Check::kSpecialIds, fmt::format("generation_config.json: {}", e.what()));
  }
  for (const auto id : generation.eos_token_ids)
    if (out.config && id >= out.config->vocab_size)
      out.add(Check::kSpecialIds, fmt::format("generation_config.json: eos_token_id {} is not below vocab_size {}", id,
                                              out.config->vocab_size));
}

checkpoint::Verification verify(const VerifyCommand& o) {
  const std::filesystem::path directory = o.model;
  Context ctx(o.threads);
  checkpoint::Verification out = checkpoint::verify_weights(ctx, directory, o.quick, ByteProgress("reading"));
  if (tokenizer::Tokenizer::exists(directory))
    out.attempt(Check::kTokenizer, [&] {
      check_tokenizer(directory, out);
      check_added_tokens(directory, out);
    });
  else
    out.notes.push_back("there is no tokenizer; prompts must be token ids");
  out.attempt(Check::kSpecialIds, [&] { check_generation_config(directory, out); });
  bool has_template = true;
  out.attempt(Check::kChatTemplate, [&] {
    has_template = tokenizer::ChatTemplate::exists(directory);
    if (!has_template) return;
    check_template(directory, out);
    check_end_of_turn(directory, out);
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

int run(const VerifyCommand& o) {
  const checkpoint::Verification result = verify(o);
  if (o.json)
    print_json(result);
  else
    print_table(result);
  return result.findings.empty() ? 0 : 1;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  static VerifyCommand o;
  CLI::App* command = app.add_subcommand(
      "verify", "What is wrong with a model directory: shapes, scales, damaged values, tokenizer, template");
  command->add_option("MODEL", o.model, "Model directory")->required();
  command->add_flag("--quick", o.quick, "Read headers only, not the values");
  command->add_flag("--json", o.json, "Print as JSON");
  command->add_option("--threads", o.threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  command->footer(
      "Looked at: tensors that are missing, of the wrong shape or kind, or beyond what the config describes (a finding "
      "if the weights would mean something else without them, a note if they do no harm); values and scales that are "
      "not finite; repeats in MTP layers; the tokenizer's round trips; end tokens, and whether the chat template's end "
      "of "
      "a turn is one; the defaults of generation_config.json; fields of config.json that have no effect.\n\n"
      "Exit code 0: nothing found, 1: findings (a sentence each), 2: not a directory, or one that cannot be "
      "read.\n\nExample:\n  hadal verify "
      "models/mini");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
