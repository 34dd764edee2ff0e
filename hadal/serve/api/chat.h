// /v1/chat/completions: requests and answers.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "hadal/chat/switches.h"
#include "hadal/serve/api/answer.h"

namespace hadal::serve {

// A conversation as it was sent, and how it becomes a prompt.
struct Conversation {
  nlohmann::ordered_json messages, tools;  // tools: a list or null
  tokenizer::RenderOptions render;
  chat::ThinkingSwitches thinking;
};

// messages, tools, chat_template_kwargs and what else decides about the prompt. Throws ApiError.
Conversation read_conversation(Fields& fields, const nlohmann::ordered_json& body, const ServedModel& model);

struct ChatRequest {
  Conversation conversation;
  Generation generation;
  Form form;
};

// Throws ApiError, InvalidRequest (chat::BadParameter among them).
ChatRequest read_chat(Fields& fields, const nlohmann::ordered_json& body, const ServedModel& model,
                      const ApiOptions& options);

std::unique_ptr<GenerationAnswer> chat_answer(const ServedModel& model, EngineLoop& loop, ChatRequest request,
                                              std::unique_ptr<Account> account);

}  // namespace hadal::serve
