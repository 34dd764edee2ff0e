#include "hadal/cli/program.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <new>
#include <vector>

#include "hadal/cli/commands.h"
#include "hadal/cli/interrupt.h"
#include "hadal/cli/standard_error.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"
#include "hadal/core/log.h"
#include "hadal/core/suggestion.h"

namespace hadal::cli {
namespace {

constexpr int kError = 2;
constexpr const char* kVersion = "0.1.0";

// Several violations come as lines; each is a sentence of its own.
int report(std::string_view message) {
  while (!message.empty()) {
    const std::size_t end = std::min(message.find('\n'), message.size());
    to_stderr(fmt::format("hadal: {}\n", message.substr(0, end)));
    message.remove_prefix(std::min(end + 1, message.size()));
  }
  return kError;
}

std::vector<std::string> subcommand_names(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::App* c : app.get_subcommands({})) out.push_back(c->get_name());
  return out;
}

// The innermost command that was named.
const CLI::App& chosen_command(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : chosen_command(*chosen[0]);
}

// The sentence for arguments that no command knows, with what may have been meant.
std::string unknown_arguments(const CLI::App& app, int argc, char** argv) {
  const CLI::App& command = chosen_command(app);
  const auto names = subcommand_names(command);
  if (&command == &app && argc > 1 && argv[1][0] != '-')
    return fmt::format("{} is not a command{}", argv[1], suggestion(argv[1], names));
  const auto rest = app.remaining(true);
  if (rest.empty()) return "";
  const std::string word = rest[0].substr(0, rest[0].find('='));
  if (!names.empty() && !word.starts_with('-'))
    return fmt::format("{} {} is not a command{}", command.get_name(), word, suggestion(word, names));
  std::vector<std::string> options;
  for (const CLI::App* a = &command; a; a = a->get_parent())
    for (const CLI::Option* o : a->get_options())
      for (const std::string& name : o->get_lnames()) options.push_back("--" + name);
  return fmt::format("{} is not expected here{}", word, suggestion(word, options));
}

constexpr const char* kGreeting =
    R"(Hadal runs DeepSeek-V3-family models on a CPU, straight from their published directories. Three commands to try:

  hadal chat                            talk to the small model that comes with Hadal
  hadal inspect MODEL                   what a model directory holds and what it needs
  hadal generate MODEL --prompt 'Hi'    one answer; --input FILE for many

`hadal --help` lists all commands, `hadal COMMAND --help` tells what one can do.
)";

int report_usage(const CLI::App& app, const std::string& message) {
  const auto chosen = app.get_subcommands();
  const std::string command = chosen.empty() ? "" : " " + chosen[0]->get_name();
  return report(fmt::format("{}; see `hadal{} --help`", message, command));
}

int parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& e) {  // --help, --version
    app.exit(e);
    flush_output();
    return -1;
  } catch (const CLI::ParseError& e) {
    std::string text = e.what();
    const bool unknown = dynamic_cast<const CLI::ExtrasError*>(&e) || dynamic_cast<const CLI::RequiredError*>(&e);
    if (const std::string better = unknown ? unknown_arguments(app, argc, argv) : ""; !better.empty()) text = better;
    while (text.ends_with('\n') || text.ends_with('.')) text.pop_back();
    return report_usage(app, text);
  }
}

}  // namespace

int run_program(int argc, char** argv) {
  CLI::App app("DeepSeek-V3-family models: run, inspect and convert them, straight from their published directories.",
               "hadal");
  app.set_version_flag("--version", std::string("hadal ") + kVersion);
  app.footer(
      "Example:\n  hadal chat models/mini\n\nA MODEL is a directory in the Hugging Face layout. `hadal COMMAND --help` "
      "tells more.");
  app.require_subcommand(1);
  bool verbose = false, quiet = false;
  app.add_flag("--verbose", verbose, "Say on stderr what is going on");
  app.add_flag("--quiet", quiet, "No warnings");
  app.fallthrough();
  Action action;
  for (const auto add : {add_chat, add_generate, add_serve, add_keys, add_logits, add_train, add_gradients,
                         add_perplexity, add_tokenizer, add_convert, add_init, add_inspect, add_verify, add_data, add_bench})
    add(app, action);
  install_signal_handlers();
  try {
    if (argc == 1 && stdout_is_terminal()) {
      print(kGreeting);
      flush_output();
      return 0;
    }
    if (argc <= 1) {
      to_stderr(app.help());
      return report("a command was expected");
    }
    if (const int code = parse(app, argc, argv)) return code < 0 ? 0 : code;
    set_log_level(verbose ? LogLevel::kDebug : quiet ? LogLevel::kError : LogLevel::kWarning);
    const int code = action();
    flush_output();
    return code;
  } catch (const Interrupted& e) {
    report(e.what());
    return kInterrupted;
  } catch (const std::bad_alloc&) {
    return report("there is not enough memory for this");
  } catch (const std::exception& e) {
    return report(e.what());
  }
}

}  // namespace hadal::cli
