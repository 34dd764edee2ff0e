// /v1/chat/completions: requests and answers.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "hadal/chat/switches.h"
#include "hadal/serve/api/answer.h"
#include "hadal/serve/idle_work.h"

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
  std::size_t bytes = 0;  // of the body
};

// Throws ApiError, InvalidRequest (chat::BadParameter among them).
ChatRequest read_chat(Fields& fields, const nlohmann::ordered_json& body, const ServedModel& model,
                      const ApiOptions& options);

// idle: makes the answer a part of the next turn's prompt; may be null.
std::unique_ptr<GenerationAnswer> chat_answer(const ServedModel& model, EngineLoop& loop, ChatRequest request,
                                              std::unique_ptr<Account> account, IdleWork* idle);

}  // namespace hadal::serve
