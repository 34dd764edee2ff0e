// What an answer consists of, piece by piece, as OpenAI's streams have it.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace hadal::chat {

struct Event {
  enum class Kind {
    kReasoning,      // text of the thought
    kContent,        // text
    kToolBegin,      // a call with id and name
    kToolArguments,  // more text of its arguments
    kToolEnd,
  };
  Kind kind = Kind::kContent;
  std::string text = {};
  int call = -1;  // which call, from 0; of the tool events
  std::string id = {}, name = {};

  bool operator==(const Event&) const = default;
};
using Events = std::vector<Event>;

// Appends events; text of one kind that follows one another is one event.
class EventWriter {
 public:
  explicit EventWriter(std::string call_prefix) : call_prefix_(std::move(call_prefix)) {}

  void reasoning(std::string text) { add(Event::Kind::kReasoning, std::move(text), -1); }
  void content(std::string text) { add(Event::Kind::kContent, std::move(text), -1); }
  // Without an id of its own, the call gets one of the prefix and its number.
  void begin_call(std::string name, std::string id = "") {
    ++calls_;
    has_arguments_ = false;
    if (id.empty()) id = call_prefix_ + std::to_string(calls_ - 1);
    events_.push_back({Event::Kind::kToolBegin, "", calls_ - 1, std::move(id), std::move(name)});
  }
  void arguments(std::string text) {
    has_arguments_ = has_arguments_ || text.find_first_not_of(" \t\r\n") != std::string::npos;
    add(Event::Kind::kToolArguments, std::move(text), calls_ - 1);
  }
  // Arguments are an object even if the model wrote none.
  void end_call() {
    if (!has_arguments_) arguments("{}");
    events_.push_back({Event::Kind::kToolEnd, "", calls_ - 1});
  }

  int calls() const { return calls_; }
  Events take() { return std::exchange(events_, {}); }

 private:
  void add(Event::Kind kind, std::string text, int call) {
    if (text.empty()) return;
    if (!events_.empty() && events_.back().kind == kind && events_.back().call == call)
      events_.back().text += text;
    else
      events_.push_back({kind, std::move(text), call});
  }

  std::string call_prefix_;
  Events events_;
  int calls_ = 0;
  bool has_arguments_ = false;
};

}  // namespace hadal::chat
