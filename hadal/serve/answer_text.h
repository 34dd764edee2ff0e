// The text of one answer from its tokens: characters as they become whole, up to a stop string.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hadal/chat/stop_strings.h"
#include "hadal/infer/request.h"
#include "hadal/tokenizer/stream_decoder.h"

namespace hadal::serve {

class AnswerText {
 public:
  using TokenId = config::TokenId;

  // tokenizer: nullptr if there is none, and no text then. `ends`: tokens that end the answer, and are none of its text
  // whether they are flagged special or not.
  AnswerText(const tokenizer::Tokenizer* tokenizer, std::vector<TokenId> ends, std::vector<std::string> stop,
             bool skip_special = true);

  // What can be shown now. Without `may_stop` no stop string ends here.
  std::string push(TokenId id, bool may_stop = true);
  // What was held back.
  std::string finish();
  bool stopped() const { return stops_.stopped(); }
  const std::string& found() const { return stops_.found(); }

 private:
  std::vector<TokenId> ends_;
  chat::StopStrings stops_;
  std::optional<tokenizer::StreamDecoder> decoder_;
  bool may_stop_ = true;
};

}  // namespace hadal::serve
