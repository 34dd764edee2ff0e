#include "hadal/tokenizer/chat_template.h"

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/tokenizer/jinja/interpreter.h"
#include "hadal/tokenizer/jinja/parser.h"
#include "hadal/tokenizer/tokenizer_files.h"

namespace hadal::tokenizer {
namespace {

using io::Json;

constexpr const char* kTemplateFile = "chat_template.jinja";
constexpr const char* kConfigFile = "tokenizer_config.json";

// The template inside tokenizer_config.json; empty if there is none.
std::string embedded_template(const Json& config, const std::string& where) {
  const auto it = config.find("chat_template");
  if (it == config.end() || it->is_null()) return "";
  if (it->is_string()) return it->get<std::string>();
  HADAL_CHECK(it->is_array(), "{}: chat_template is neither a string nor a list", where);
  for (const Json& entry : *it)
    if (entry.is_object() && entry.contains("name") && entry["name"] == "default" && entry.contains("template") &&
        entry["template"].is_string())
      return entry["template"].get<std::string>();
  fail("{}: chat_template has none called default", where);
}

Prompt cut_behind_final_message(const Prompt& prompt, const Json& messages, const std::string& where) {
  const bool good = !messages.empty() && messages.back().is_object() && messages.back().contains("content") &&
                    messages.back()["content"].is_string();
  if (!good) throw InvalidRequest("messages: the last one has no text that could be continued");
  const std::string text = messages.back()["content"];
  constexpr const char* kSpace = " \t\r\n\v\f";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) throw InvalidRequest("messages: the last one is empty, there is nothing to continue");
  // Templates may strip what they write; trailing space is kept where they do not.
  const std::string kept = text.substr(begin), stripped = text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
  const std::size_t at = prompt.text.rfind(stripped);
  if (at == prompt.text.npos) throw InvalidRequest(where + ": does not write the last message, it cannot be continued");
  const bool is_kept = std::string_view(prompt.text).substr(at).starts_with(kept);
  return jinja::slice_text(prompt, 0, at + (is_kept ? kept : stripped).size());
}

}  // namespace

struct ChatTemplate::Parsed {
  jinja::Body body;
};

ChatTemplate::ChatTemplate(std::string source, std::string bos_token, std::string eos_token, std::string name)
    : source_(std::move(source)),
      bos_token_(std::move(bos_token)),
      eos_token_(std::move(eos_token)),
      name_(std::move(name)),
      parsed_(std::make_unique<Parsed>(Parsed{jinja::parse(source_, name_)})) {}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

bool ChatTemplate::exists(const std::filesystem::path& directory) {
  if (std::filesystem::exists(directory / kTemplateFile)) return true;
  const auto config = directory / kConfigFile;
  return std::filesystem::exists(config) && !embedded_template(io::read_json_file(config), config.string()).empty();
}

ChatTemplate ChatTemplate::load(const std::filesystem::path& directory) {
  TokenizerConfig config;
  std::string source, name;
  const auto config_path = directory / kConfigFile, template_path = directory / kTemplateFile;
  if (std::filesystem::exists(config_path)) {
    const std::string text = io::read_text_file(config_path);
    config = parse_tokenizer_config(text, config_path.string());
    source = embedded_template(io::parse_json(text, config_path.string()), config_path.string());
    name = config_path.string() + " chat_template";
  }
  if (std::filesystem::exists(template_path)) {
    source = io::read_text_file(template_path);
    name = template_path.string();
  }
  HADAL_CHECK(!source.empty(), "{}: has no chat template, neither {} nor chat_template in {}", directory.string(),
              kTemplateFile, kConfigFile);
  return ChatTemplate(std::move(source), config.bos_token, config.eos_token, name);
}

Prompt ChatTemplate::render(const Json& messages, const Json& tools, const RenderOptions& options) const {
  if (!messages.is_array()) throw InvalidRequest("messages: a list was expected");
  for (const Json& m : messages)
    if (!m.is_object() || !m.contains("role") || !m["role"].is_string())
      throw InvalidRequest("messages: each needs a \"role\" that is a string; one has none");
  std::map<std::string, jinja::Value> variables;
  for (const auto& [key, value] : options.variables.items()) variables[key] = jinja::from_json(value, Origin::kUser);
  variables["messages"] = jinja::from_json(messages, Origin::kUser);
  variables["tools"] = jinja::from_json(tools, Origin::kUser);
  variables["documents"] = jinja::None{};
  variables["add_generation_prompt"] = options.add_generation_prompt && !options.continue_final_message;
  variables["bos_token"] = jinja::make_text(bos_token_, Origin::kTemplate);
  variables["eos_token"] = jinja::make_text(eos_token_, Origin::kTemplate);
  const Prompt prompt = jinja::render(parsed_->body, name_, std::move(variables));
  return options.continue_final_message ? cut_behind_final_message(prompt, messages, name_) : prompt;
}

std::string ChatTemplate::family() const {
  const auto has = [&](const char* marker) { return source_.find(marker) != std::string::npos; };
  if (has("<|im_system|>")) return has("tool_calls_section_begin") ? "kimi-k2" : "moonlight";
  if (has("<｜Assistant｜>")) {
    if (has("thinking")) return "deepseek-v3.1";
    return has("<｜Assistant｜><think>") ? "deepseek-r1" : "deepseek-v3";
  }
  return has("'User: '") || has("User: ") ? "deepseek-v2" : "other";
}

}  // namespace hadal::tokenizer
