// What the next turn of a conversation will begin with, as far as that is known when an answer has ended: templates
// write an answer into a history otherwise than the model said it (thoughts are left out, calls are written anew).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "hadal/tokenizer/chat_template.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::chat {

// The tokens that prompts have in common whatever is said next: a user's message, or the results of the answer's calls.
// `render` is that of the request; `answer` is the assistant's message as it was answered, the end of the last message
// if that one was to be continued. Empty if the template refuses such a conversation, or where it is not known what the
// caller will make of both.
std::vector<tokenizer::TokenId> next_turn(const tokenizer::Tokenizer& tokenizer, const tokenizer::ChatTemplate& chat,
                                          nlohmann::ordered_json messages, const nlohmann::ordered_json& tools,
                                          tokenizer::RenderOptions render, nlohmann::ordered_json answer);

}  // namespace hadal::chat
