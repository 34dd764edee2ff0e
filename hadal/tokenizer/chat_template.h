// A model's chat template: messages in OpenAI's form to the exact prompt, with the origin of every part.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "hadal/tokenizer/prompt.h"

namespace hadal::tokenizer {

struct RenderOptions {
  bool add_generation_prompt = false;
  // Further variables of the template, e.g. {"thinking": true}. Their text counts as user data.
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  // The last message is the beginning of an answer that is to be continued: the prompt ends with its text, without the
  // end token that the template puts behind it and without a generation prompt (rule 4).
  bool continue_final_message = false;
};

class ChatTemplate {
 public:
  // Parses at once; errors name `name` and the line.
  ChatTemplate(std::string source, std::string bos_token, std::string eos_token, std::string name);
  // chat_template.jinja of the directory, else chat_template of its tokenizer_config.json: a string or a list of named
  // ones, of which "default" is taken.
  static ChatTemplate load(const std::filesystem::path& directory);
  static bool exists(const std::filesystem::path& directory);

  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // messages: a list of objects; tools: a list or null. Throws InvalidRequest for what the template refuses.
  Prompt render(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& tools,
                const RenderOptions& options = {}) const;

  // "deepseek-v3", "deepseek-r1", "deepseek-v3.1", "deepseek-v2", "moonlight", "kimi-k2" or "other", by the markers in
  // it.
  std::string family() const;
  const std::string& source() const { return source_; }

 private:
  struct Parsed;
  std::string source_, bos_token_, eos_token_, name_;
  std::unique_ptr<Parsed> parsed_;
};

}  // namespace hadal::tokenizer
