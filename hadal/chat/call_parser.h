// The tool calls of an answer, one parser for each style of markup.
#pragma once

#include <memory>
#include <vector>

#include "hadal/chat/answer_events.h"
#include "hadal/chat/markup.h"
#include "hadal/chat/symbols.h"

namespace hadal::chat {

// What has not been understood yet.
struct Input {
  Symbols text;
  bool last = false;  // nothing comes behind it

  Symbols take(std::size_t count) {
    Symbols out = text.substr(0, count);
    text.erase(0, count);
    return out;
  }
};

struct Found {
  std::size_t at = 0;    // so much text is before it; without a marker, before what may become one
  int marker = -1;       // which
  std::size_t size = 0;  // of the marker
};
// The first of the markers, the longest of those that begin at one place. None while one that would begin before it, or
// be longer, may still be on its way.
Found find_marker(const Input& input, const std::vector<Symbols>& markers);

// Gets the input from the marker on that begins it, until it is done.
class CallParser {
 public:
  enum class Step {
    kMore,   // nothing to do with so little input
    kAgain,  // some of it is done
    kDone,   // the rest is no tool call
  };
  virtual ~CallParser() = default;
  virtual Step step(Input& input, EventWriter& out) = 0;
};

// Markers as symbols of a tokenizer, made once for a model.
struct CallMarkers {
  CallMarkers() = default;
  CallMarkers(ToolStyle style, const Alphabet& alphabet);

  ToolStyle style = ToolStyle::kNone;
  Symbols section_begin, section_end, call_begin, separator, call_end;
  std::vector<Symbols> begins;       // of tool calls, in text
  bool are_tokens = false;           // no text looks like them
  std::vector<Symbols> between;      // section_begin, call_begin, section_end
  std::vector<Symbols> header_ends;  // the end of a header first, then what no header has in it
  std::vector<Symbols> fences;       // that may open arguments
  std::vector<Symbols> argument_ends, fenced_argument_ends;
  std::size_t closing = 0, fenced_closing = 0;  // so many of them, the first ones, belong to the call
  Symbols quote_end, parameter_end;             // DSML
};

// nullptr for a style without tool calls. Keeps references.
std::unique_ptr<CallParser> make_call_parser(const CallMarkers& markers, const Alphabet& alphabet);

}  // namespace hadal::chat
