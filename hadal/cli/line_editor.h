// Line editing with history (libedit), kept between runs in $XDG_STATE_HOME/hadal/history.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace hadal::cli {

class LineEditor {
 public:
  explicit LineEditor(std::string prompt);
  ~LineEditor();

  // The next line without its end; nothing at Ctrl-D. Ctrl-C clears the line and starts anew.
  std::optional<std::string> read();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hadal::cli
