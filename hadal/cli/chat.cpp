// hadal chat
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "hadal/cli/commands.h"
#include "hadal/cli/conversation.h"
#include "hadal/cli/expert_stats.h"
#include "hadal/cli/interrupt.h"
#include "hadal/cli/line_editor.h"
#include "hadal/cli/options.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/log.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"

namespace hadal::cli {
namespace {

struct ChatCommand {
  std::string model, system;
  ComputeOptions compute;
  SamplingOptions sampling;
  TemplateOptions chat_template;
  bool fresh = false;
};

// A line of its own for each turn; nothing but answers goes to stdout.
int talk_through_pipe(Conversation& chat, bool fresh) {
  bool first = true;
  for (std::string line; std::getline(std::cin, line);) {
    if (std::exchange(first, false)) line.erase(0, line.size() - io::utf8_text(line, "stdin").size());
    if (line.ends_with('\r')) line.pop_back();
    if (fresh) chat.clear();
    chat.answer(line, [](const std::string& text) {
      print(text);
      flush_output();
      return !interrupted();
    });
    print("\n");
    flush_output();
    if (interrupted()) return kInterrupted;
  }
  return interrupted() ? kInterrupted : 0;
}

constexpr const char* kHelp =
    "/clear          forget the conversation\n"
    "/system TEXT    set the system message (empty: none) and forget the conversation\n"
    "/think on|off   ask the template for thinking or not\n"
    "/save FILE      write the conversation as JSON messages\n"
    "/stats          tokens and speed of the last answer\n"
    "/exit           leave (so does Ctrl-D); Ctrl-C stops an answer\n";

class TerminalChat {
 public:
  TerminalChat(Conversation& chat, const std::string& model) : chat_(chat), editor_("> ") {
    print(fmt::format("{}: type a message, /help for commands, Ctrl-D to leave.\n", model));
    flush_output();
  }

  int run() {
    while (const auto line = editor_.read()) {
      clear_interrupt();
      if (line->empty()) continue;
      try {
        if ((*line)[0] == '/') {
          if (!command(*line)) return 0;
        } else {
          answer(*line);
        }
      } catch (const Error& e) {
        print(fmt::format("{}\n", e.what()));
      }
      flush_output();
    }
    print("\n");
    return 0;
  }

 private:
  void answer(const std::string& message) {
    const auto result = chat_.answer(message, [](const std::string& text) {
      print(text);
      flush_output();
      return !interrupted();
    });
    if (result.completion.finish_reason == infer::FinishReason::kCancelled) print(" [stopped]");
    if (result.completion.finish_reason == infer::FinishReason::kLength) print(" [cut: no room for more tokens]");
    print("\n");
    clear_interrupt();
  }

  // False: leave.
  bool command(const std::string& line) {
    const std::size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const std::string argument = space == line.npos ? ""
                                                    : line.substr(line.find_first_not_of(' ', space) == line.npos
                                                                      ? line.size()
                                                                      : line.find_first_not_of(' ', space));
    if (name == "/exit" || name == "/quit") return false;
    if (name == "/help")
      print(kHelp);
    else if (name == "/clear")
      chat_.clear();
    else if (name == "/system")
      chat_.set_system(argument);
    else if (name == "/think")
      think(argument);
    else if (name == "/save")
      save(argument);
    else if (name == "/stats")
      print(chat_.stats());
    else
      print(fmt::format("{} is not a command; /help lists them\n", name));
    return true;
  }

  void think(const std::string& argument) {
    HADAL_CHECK(argument == "on" || argument == "off", "/think: on or off was expected");
    if (!chat_.set_thinking(argument == "on")) print("This model's template has no switch for thinking.\n");
  }

  void save(const std::string& path) {
    HADAL_CHECK(!path.empty(), "/save: the name of a file was expected");
    io::write_text_file_atomically(path, chat_.messages().dump(2) + "\n");
    print(fmt::format("Saved {} messages to {}.\n", chat_.messages().size(), path));
  }

  Conversation& chat_;
  LineEditor editor_;
};

int run(const ChatCommand& o) {
  const std::filesystem::path directory = o.model.empty() ? bundled_model() : std::filesystem::path(o.model);
  TextModel model(directory, o.compute);
  const StatsAtEnd stats(o.compute.stats, model.store(), [&] { return describe(model.speculation()); });
  Conversation chat(model, o.sampling, o.chat_template.render());
  if (!o.chat_template.thinking.empty() && !model.chat_template().mentions("thinking"))
    log_warning("--thinking: the model's chat template has no switch for thinking");
  if (!o.system.empty()) chat.set_system(o.system);
  if (!stdin_is_terminal()) return talk_through_pipe(chat, o.fresh);
  const auto name = (directory.has_filename() ? directory : directory.parent_path()).filename().string();
  return TerminalChat(chat, name).run();
}

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  static ChatCommand o;
  CLI::App* command =
      app.add_subcommand("chat", "Talk to a model: streaming, several turns, with the model's own template");
  command->add_option("MODEL", o.model, "Model directory (default: the small model that comes with Hadal)");
  command->add_option("--system", o.system, "System message");
  command->add_flag("--fresh", o.fresh, "When stdin is not a terminal: each line is a conversation of its own");
  o.chat_template.add_to(*command);
  o.sampling.add_to(*command);
  o.compute.add_to(*command);
  o.compute.add_sequence_to(*command);
  o.compute.add_memory_to(*command);
  o.compute.add_disk_to(*command);
  o.compute.add_speculate_to(*command);
  command->footer(
      "When stdin is not a terminal each line is the next turn (commands with / are for terminals only), and the "
      "answers go\nto stdout, nothing else.\n\n"
      "Example:\n  hadal chat models/mini --temperature 0.5\n  echo 'What is 7 times 8?' | hadal chat --temperature 0");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
