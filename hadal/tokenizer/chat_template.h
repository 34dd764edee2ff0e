// A model's chat template: messages in OpenAI's form to the exact prompt, with the origin of every part.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "hadal/tokenizer/prompt.h"

namespace hadal::tokenizer {

namespace jinja {
class Value;
}

struct RenderOptions {
  bool add_generation_prompt = false;
  // Further variables of the template, e.g. {"thinking": true}. Their text counts as user data.
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  // The last message is the beginning of an answer that is to be continued: the prompt ends with its text, without the
  // end token that the template puts behind it and without a generation prompt (rule 4).
  bool continue_final_message = false;
  // Of a model with several templates; empty: "tool_use" if there are tools and such a template, else "default".
  std::string template_name = "";
  // Messages go to the template as they are, as transformers gives them, instead of by way of chat_messages.
  bool as_given = false;
};

class ChatTemplate {
 public:
  // Parses at once; errors name `name` and the line.
  ChatTemplate(std::string source, std::string bos_token, std::string eos_token, std::string name);
  // chat_template.jinja of the directory and additional_chat_templates/NAME.jinja, else chat_template of its
  // tokenizer_config.json: a string or a list of named ones. Only a fault in the default one is an error at once.
  static ChatTemplate load(const std::filesystem::path& directory);
  static bool exists(const std::filesystem::path& directory);

  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // messages: a list of objects (see chat_messages.h for their forms); tools: a list or null. Throws InvalidRequest for
  // what the template refuses.
  Prompt render(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& tools,
                const RenderOptions& options = {}) const;

  // "deepseek-v3", "deepseek-r1", "deepseek-v3.1", "deepseek-v2", "moonlight", "kimi-k2" or "other", by the markers in
  // it.
  std::string family() const;
  // Of the default template.
  const std::string& source() const;
  // Whether a template mentions the variable anywhere.
  bool mentions(const std::string& variable) const;

 private:
  struct Named;
  ChatTemplate(std::string bos_token, std::string eos_token, std::string where);
  void add(const std::string& key, std::string source, std::string name);
  const Named& choose(const nlohmann::ordered_json& tools, const std::string& name) const;
  Prompt render_values(const Named& chosen, jinja::Value messages, const nlohmann::ordered_json& tools,
                       const RenderOptions& options) const;
  Prompt render_continued(const Named& chosen, const nlohmann::ordered_json& messages,
                          const nlohmann::ordered_json& tools, const RenderOptions& options) const;

  std::string bos_token_, eos_token_, where_;
  std::map<std::string, std::unique_ptr<Named>> named_;
};

}  // namespace hadal::tokenizer
