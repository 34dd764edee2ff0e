#include "hadal/cli/program.h"

#include <CLI/CLI.hpp>
#include <new>

#include "hadal/cli/commands.h"
#include "hadal/cli/interrupt.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"
#include "hadal/core/log.h"

namespace hadal::cli {
namespace {

constexpr int kError = 2;
constexpr const char* kVersion = "0.1.0";

// Several violations come as lines; each is a sentence of its own.
int report(std::string_view message) {
  while (!message.empty()) {
    const std::size_t end = std::min(message.find('\n'), message.size());
    fmt::print(stderr, "hadal: {}\n", message.substr(0, end));
    message.remove_prefix(std::min(end + 1, message.size()));
  }
  return kError;
}

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
    if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-')
      text = fmt::format("{} is not a command", argv[1]);
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
  for (const auto add : {add_chat, add_generate, add_logits, add_perplexity, add_tokenizer, add_convert, add_init,
                         add_inspect, add_verify, add_bench})
    add(app, action);
  install_signal_handlers();
  try {
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
