// A conversation: messages in, answers out, the template rendered anew each turn and the cache going on from its own
// answers.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "hadal/cli/text_model.h"

namespace hadal::cli {

class Conversation {
 public:
  // Keeps a reference to the model.
  Conversation(TextModel& model, SamplingOptions sampling, tokenizer::RenderOptions render = {});

  // Adds the message and the answer to the conversation, also an answer that was stopped. If the prompt does not fit,
  // the message is taken back and InvalidRequest says both numbers.
  TextAnswer answer(const std::string& message, const std::function<bool(const std::string&)>& on_text);

  void clear();  // but for the system message
  void set_system(const std::string& text);
  // False if the template knows no such switch.
  bool set_thinking(bool on);
  const nlohmann::ordered_json& messages() const { return messages_; }
  std::string stats() const;

 private:
  TextModel& model_;
  SamplingOptions sampling_;
  std::string system_;
  nlohmann::ordered_json messages_ = nlohmann::ordered_json::array();
  tokenizer::RenderOptions render_;
  infer::Completion last_;
};

}  // namespace hadal::cli
