// One line of batch input: what to answer and how.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "hadal/chat/guided.h"
#include "hadal/cli/options.h"
#include "hadal/infer/engine.h"
#include "hadal/tokenizer/chat_template.h"

namespace hadal::cli {

struct GenerationTask {
  nlohmann::ordered_json id;  // as given, or the line's number
  std::string place;          // opens sentences about it: file and line
  std::string fault;          // why it cannot be answered; the members below mean nothing then
  // Exactly one of these is the prompt.
  std::string text;
  nlohmann::ordered_json messages;
  std::vector<config::TokenId> prompt_ids;
  bool raw = false;  // `text` without the template
  nlohmann::ordered_json tools;
  tokenizer::RenderOptions render = {.add_generation_prompt = true};

  infer::SamplingParams sampling;
  Index max_tokens = 0, min_tokens = 0;
  std::vector<std::string> stop;
  std::vector<config::TokenId> stop_token_ids;
  bool ignore_eos = false;
  int n = 1;
  std::optional<chat::GuidedOutput> guided;
  nlohmann::ordered_json switches = nlohmann::ordered_json::object();  // of the template and of thinking, as given
};

// The sentence about a task that failed: `what` behind file, line and id.
std::string sentence_about(const GenerationTask& task, const std::string& what);

// Lines that start with "{" are JSON objects: {"id", "prompt" | "prompt_ids" | "messages", and fields as the server's
// API has them}, or such an object inside a line of OpenAI's batch files {"custom_id", "body"}; every other line that
// is not empty is a prompt. What a line does not say is as in `defaults`. A line that cannot be read is a task with a
// fault.
std::vector<GenerationTask> parse_tasks(std::string_view input, const std::string& where,
                                        const GenerationTask& defaults);

}  // namespace hadal::cli
