// hadal tokenizer encode | decode | render
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "hadal/cli/commands.h"
#include "hadal/cli/options.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"
#include "hadal/tokenizer/chat_template.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::cli {
namespace {

using io::Json;
using tokenizer::Tokenizer;

struct TokenizerCommand {
  std::string model, messages, tools;
  bool no_special = false, skip_special = false, generation_prompt = false, ids = false, allow_special = false,
       continue_final = false;
  TemplateOptions template_options;
};

void print_ids(const std::vector<tokenizer::TokenId>& ids) {
  print(Json(ids).dump() + "\n");
}

int encode(const TokenizerCommand& o) {
  const auto mode = o.no_special ? tokenizer::AddedTokenMode::kIgnore : tokenizer::AddedTokenMode::kRecognise;
  const Tokenizer tokenizer = Tokenizer::load(o.model);
  print_ids(tokenizer.encode(read_stdin(), mode));
  return 0;
}

int decode(const TokenizerCommand& o) {
  const Json json = io::parse_json(read_stdin(), "stdin");
  HADAL_CHECK(json.is_array(), "stdin: a JSON array of token ids was expected");
  std::vector<tokenizer::TokenId> ids;
  for (const Json& id : json) {
    HADAL_CHECK(id.is_number_integer() && id.get<double>() >= 0 && id.get<double>() <= INT32_MAX,
                "stdin: {} is not a token id", id.dump());
    ids.push_back(id.get<tokenizer::TokenId>());
  }
  print(Tokenizer::load(o.model).decode(ids, o.skip_special));
  return 0;
}

Json read_document(const std::string& file) {
  const std::string text = io::read_text_file(file);
  Json json = io::parse_json(text, file);
  io::check_integers(text, file);
  return json;
}

int render(const TokenizerCommand& o) {
  const Json messages = read_document(o.messages);
  const Json tools = o.tools.empty() ? Json() : read_document(o.tools);
  HADAL_CHECK(tools.is_null() || tools.is_array(), "{}: a list of tools was expected", o.tools);
  const auto chat_template = tokenizer::ChatTemplate::load(o.model);
  tokenizer::RenderOptions options = o.template_options.render();
  options.add_generation_prompt = o.generation_prompt;
  options.continue_final_message = o.continue_final;
  const tokenizer::Prompt prompt = chat_template.render(messages, tools, options);
  if (!o.ids) {
    print(prompt.text);
    if (stdout_is_terminal()) print("\n");
    return 0;
  }
  const Tokenizer tokenizer = Tokenizer::load(o.model);
  print_ids(o.allow_special ? tokenizer.encode(prompt.text) : tokenizer.encode(prompt));
  return 0;
}

CLI::App* add(CLI::App& parent, Action& action, TokenizerCommand& o, const char* name, const char* help,
              const char* example, int (*run)(const TokenizerCommand&)) {
  CLI::App* command = parent.add_subcommand(name, help);
  command->add_option("MODEL", o.model, "Model directory (only its tokenizer's files are read)")->required();
  command->footer(std::string("Example:\n  ") + example);
  command->callback([&action, &o, run] { action = [&o, run] { return run(o); }; });
  return command;
}

}  // namespace

void add_tokenizer(CLI::App& app, Action& action) {
  static TokenizerCommand o;
  CLI::App* group = app.add_subcommand("tokenizer", "Text to token ids and back; chat messages to the exact prompt");
  group->require_subcommand(1);
  group->footer("Example:\n  echo -n 'Hello' | hadal tokenizer encode models/mini");
  CLI::App* e = add(*group, action, o, "encode",
                    "Reads text from stdin, byte for byte, and prints its ids as a JSON array; adds no BOS",
                    "echo -n 'Hello' | hadal tokenizer encode models/mini", encode);
  e->add_flag("--no-special", o.no_special, "Spelled-out special tokens are ordinary text");
  CLI::App* d = add(*group, action, o, "decode", "Reads a JSON array of ids from stdin and prints their bytes",
                    "echo '[501, 462]' | hadal tokenizer decode models/mini", decode);
  d->add_flag("--skip-special", o.skip_special, "Leave special tokens out");
  CLI::App* r = add(*group, action, o, "render", "Prints the prompt that the model's chat template makes of messages",
                    "hadal tokenizer render models/mini --messages chat.json --generation-prompt", render);
  r->add_option("--messages", o.messages, "JSON file with a list of {\"role\", \"content\"}")->required();
  r->add_option("--tools", o.tools, "JSON file with a list of tools");
  r->add_flag("--generation-prompt", o.generation_prompt, "End with what opens the assistant's answer");
  r->add_flag("--continue-final-message", o.continue_final,
              "End with the last message's text, as the beginning of an answer to be continued");
  r->add_flag("--ids", o.ids, "Print token ids instead of text");
  r->add_flag("--allow-special", o.allow_special, "With --ids: text of messages may spell special tokens");
  o.template_options.add_to(*r);
}

}  // namespace hadal::cli
