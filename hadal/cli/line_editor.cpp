#include "hadal/cli/line_editor.h"

#include <histedit.h>
#include <locale.h>
#include <wctype.h>

#include <cstdlib>
#include <filesystem>

namespace hadal::cli {
namespace {

constexpr int kHistoryLines = 1000;

std::filesystem::path history_file() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  std::filesystem::path folder = state && *state ? std::filesystem::path(state)
                                 : home && *home ? std::filesystem::path(home) / ".local/state"
                                                 : std::filesystem::path();
  return folder.empty() ? folder : folder / "hadal" / "history";
}

}  // namespace

struct LineEditor::State {
  std::string prompt;
  std::filesystem::path file = history_file();
  EditLine* editor = nullptr;
  History* history = nullptr;

  static char* show_prompt(EditLine* editor) {
    State* state = nullptr;
    el_get(editor, EL_CLIENTDATA, &state);
    return state->prompt.data();
  }
};

LineEditor::LineEditor(std::string prompt) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.prompt = std::move(prompt);
  // Multi-byte characters need a UTF-8 locale; the rest of the program does not depend on it.
  if (!setlocale(LC_CTYPE, "") || std::string(setlocale(LC_CTYPE, nullptr)).find("UTF-8") == std::string::npos)
    setlocale(LC_CTYPE, "C.UTF-8");
  s.editor = el_init("hadal", stdin, stdout, stderr);
  el_set(s.editor, EL_CLIENTDATA, &s);
  el_set(s.editor, EL_PROMPT, &State::show_prompt);
  el_set(s.editor, EL_EDITOR, "emacs");
  // Ctrl-C is a key that clears the line while one is edited; during an answer it is a signal.
  el_set(s.editor, EL_SETTY, "-d", "-isig", nullptr);
  el_set(s.editor, EL_BIND, "^C", "em-kill-line", nullptr);
  s.history = history_init();
  HistEvent event;
  history(s.history, &event, H_SETSIZE, kHistoryLines);
  history(s.history, &event, H_SETUNIQUE, 1);
  el_set(s.editor, EL_HIST, history, s.history);
  if (!s.file.empty()) history(s.history, &event, H_LOAD, s.file.c_str());
}

LineEditor::~LineEditor() {
  State& s = *state_;
  if (!s.file.empty()) {
    std::error_code ignored;  // a history that cannot be kept is no reason to fail
    std::filesystem::create_directories(s.file.parent_path(), ignored);
    HistEvent event;
    history(s.history, &event, H_SAVE, s.file.c_str());
  }
  history_end(s.history);
  el_end(s.editor);
}

std::optional<std::string> LineEditor::read() {
  State& s = *state_;
  // Before the prompt shows: what is typed as soon as it is seen, Ctrl-C above all, must find keys, not signals.
  el_set(s.editor, EL_PREP_TERM, 1);
  int count = 0;
  const char* text = el_gets(s.editor, &count);
  if (!text || count <= 0) return std::nullopt;
  std::string line(text, static_cast<std::size_t>(count));
  while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
  HistEvent event;
  if (!line.empty()) history(s.history, &event, H_ENTER, line.c_str());
  return line;
}

}  // namespace hadal::cli
