// One line of batch input: what to answer and how.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "hadal/cli/options.h"
#include "hadal/infer/engine.h"

namespace hadal::cli {

struct GenerationTask {
  nlohmann::ordered_json id;  // as given, or the line's number
  // Exactly one of these is the prompt.
  std::string text;
  nlohmann::ordered_json messages;
  std::vector<config::TokenId> prompt_ids;
  bool raw = false;  // `text` without the template
  nlohmann::ordered_json tools;

  infer::SamplingParams sampling;
  Index max_tokens = 0;
  std::vector<std::string> stop;
  std::vector<config::TokenId> stop_token_ids;
  bool ignore_eos = false;
  int n = 1;
};

// What a line does not say.
struct TaskDefaults {
  infer::SamplingParams sampling;
  Index max_tokens = 0;
  std::vector<std::string> stop;
  bool raw = false;
};

// Lines that start with "{" are JSON objects: {"id", "prompt" | "prompt_ids" | "messages", sampling in OpenAI's names};
// every other line that is not empty is a prompt. All bad lines are reported at once, each with file, line and field.
std::vector<GenerationTask> parse_tasks(const std::string& input, const std::string& where,
                                        const TaskDefaults& defaults);

}  // namespace hadal::cli
