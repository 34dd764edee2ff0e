#include "hadal/tokenizer/chat_template.h"

#include <algorithm>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"
#include "hadal/tokenizer/chat_messages.h"
#include "hadal/tokenizer/jinja/interpreter.h"
#include "hadal/tokenizer/jinja/parser.h"
#include "hadal/tokenizer/tokenizer_files.h"

namespace hadal::tokenizer {
namespace {

using io::Json;
using Variables = std::map<std::string, jinja::Value>;

constexpr const char* kTemplateFile = "chat_template.jinja";
constexpr const char* kTemplateFolder = "additional_chat_templates";
constexpr const char* kConfigFile = "tokenizer_config.json";
constexpr const char* kDefault = "default";
constexpr const char* kToolUse = "tool_use";
// Stands behind a text to be continued where the text alone leaves no trace: a noncharacter that no file has.
constexpr const char* kPlaceMark = "\uFDD0";

// The templates inside tokenizer_config.json by their names.
std::map<std::string, std::string> embedded_templates(const Json& config, const std::string& where) {
  std::map<std::string, std::string> out;
  const auto it = config.find("chat_template");
  if (it == config.end() || it->is_null()) return out;
  if (it->is_string()) {
    if (!it->get_ref<const std::string&>().empty()) out[kDefault] = it->get<std::string>();
    return out;
  }
  HADAL_CHECK(it->is_array(), "{}: chat_template is neither a string nor a list", where);
  for (const Json& entry : *it) {
    const bool good = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                      entry.contains("template") && entry["template"].is_string();
    HADAL_CHECK(good, "{}: chat_template is a list, each entry needs a \"name\" and a \"template\"", where);
    HADAL_CHECK(out.emplace(entry["name"], entry["template"]).second, "{}: chat_template has {} twice", where,
                entry["name"].dump());
  }
  return out;
}

// additional_chat_templates/NAME.jinja by NAME.
std::map<std::string, std::filesystem::path> template_files(const std::filesystem::path& directory) {
  std::map<std::string, std::filesystem::path> out;
  const auto folder = directory / kTemplateFolder;
  if (std::filesystem::is_directory(folder))
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (entry.path().extension() == ".jinja") out[entry.path().stem().string()] = entry.path();
  if (std::filesystem::exists(directory / kTemplateFile)) out[kDefault] = directory / kTemplateFile;
  return out;
}

void check_messages(const Json& messages) {
  if (!messages.is_array()) throw InvalidRequest("messages: a list was expected");
  for (std::size_t i = 0; i < messages.size(); ++i)
    if (!messages[i].is_object() || !messages[i].contains("role") || !messages[i]["role"].is_string())
      throw InvalidRequest(fmt::format("messages[{}]: each needs a \"role\" that is a string; this one has none", i));
}

Variables given_variables(const Json& variables) {
  Variables out;
  for (const auto& [key, value] : variables.items()) {
    for (const char* own : {"messages", "tools", "bos_token", "eos_token", "add_generation_prompt"})
      if (key == own) throw InvalidRequest(fmt::format("template variable {}: it is not for a request to set", key));
    out[key] = jinja::from_json(value, Origin::kUser);
  }
  return out;
}

// Whether a template walks through content that is a list of parts, and does so as it should: tried, not guessed.
bool takes_parts(const jinja::Body& body, Variables variables, const std::string& name) {
  const std::string text = "parts?";
  const auto messages = Json::parse(R"([{"role": "user", "content": [{"type": "text", "text": "parts?"}]}])");
  variables["messages"] = jinja::from_json(messages, Origin::kUser);
  variables["tools"] = variables["documents"] = jinja::None{};
  variables["add_generation_prompt"] = false;
  try {
    const std::string out = jinja::render(body, name, std::move(variables)).text;
    return out.find(text) != out.npos && out.find("type") == out.npos;
  } catch (const Error&) {
    return false;
  }
}

bool has_continued(const Prompt& prompt) {
  return std::any_of(prompt.runs.begin(), prompt.runs.end(),
                     [](const Prompt::Run& r) { return r.origin == Origin::kContinued; });
}

// The prompt up to the last text to be continued, that text included or not; it is user text from here on.
Prompt cut_at_continued(const Prompt& prompt, bool included) {
  std::size_t end = 0, begin = 0;
  for (const Prompt::Run& run : prompt.runs) {
    if (run.origin == Origin::kContinued) end = included ? run.end : begin;
    begin = run.end;
  }
  const Prompt kept = jinja::slice_text(prompt, 0, end);
  Prompt out;
  begin = 0;
  for (const Prompt::Run& run : kept.runs) {
    out.append(std::string_view(prompt.text).substr(begin, run.end - begin),
               run.origin == Origin::kTemplate ? Origin::kTemplate : Origin::kUser);
    begin = run.end;
  }
  return out;
}

}  // namespace

struct ChatTemplate::Named {
  std::string source, name;
  std::string fault;  // why it could not be parsed
  jinja::Body body;
  MessageStyle style;
};

ChatTemplate::ChatTemplate(std::string bos_token, std::string eos_token, std::string where)
    : bos_token_(std::move(bos_token)), eos_token_(std::move(eos_token)), where_(std::move(where)) {}

ChatTemplate::ChatTemplate(std::string source, std::string bos_token, std::string eos_token, std::string name)
    : ChatTemplate(std::move(bos_token), std::move(eos_token), name) {
  add(kDefault, std::move(source), std::move(name));
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

void ChatTemplate::add(const std::string& key, std::string source, std::string name) {
  auto named = std::make_unique<Named>();
  named->source = io::utf8_text(source, name);
  named->name = std::move(name);
  try {
    named->body = jinja::parse(named->source, named->name);
    const Variables tokens = {{"bos_token", jinja::make_text(bos_token_, Origin::kTemplate)},
                              {"eos_token", jinja::make_text(eos_token_, Origin::kTemplate)}};
    named->style.content_parts = takes_parts(named->body, tokens, named->name);
    named->style.developer = named->source.find("developer") != std::string::npos;
  } catch (const Error& e) {
    if (key == kDefault) throw;
    named->fault = e.what();
  }
  named_[key] = std::move(named);
}

bool ChatTemplate::exists(const std::filesystem::path& directory) {
  if (!template_files(directory).empty()) return true;
  const auto config = directory / kConfigFile;
  return std::filesystem::exists(config) && !embedded_templates(io::read_json_file(config), config.string()).empty();
}

ChatTemplate ChatTemplate::load(const std::filesystem::path& directory) {
  TokenizerConfig config;
  std::map<std::string, std::string> embedded;
  const auto config_path = directory / kConfigFile;
  if (std::filesystem::exists(config_path)) {
    const std::string text = io::read_text_file(config_path);
    config = parse_tokenizer_config(text, config_path.string());
    embedded = embedded_templates(io::parse_json(text, config_path.string()), config_path.string());
  }
  ChatTemplate out(config.bos_token, config.eos_token, directory.string());
  const auto files = template_files(directory);
  for (const auto& [key, path] : files) out.add(key, io::read_text_file(path), path.string());
  if (files.empty())
    for (auto& [key, source] : embedded)
      out.add(key, std::move(source),
              config_path.string() + " chat_template" + (embedded.size() > 1 ? " \"" + key + "\"" : ""));
  HADAL_CHECK(!out.named_.empty(), "{}: has no chat template, neither {} nor chat_template in {}", directory.string(),
              kTemplateFile, kConfigFile);
  return out;
}

const ChatTemplate::Named& ChatTemplate::choose(const Json& tools, const std::string& name) const {
  const bool for_tools = name.empty() && !tools.is_null() && named_.contains(kToolUse);
  const auto it = named_.find(!name.empty() ? name : for_tools ? kToolUse : kDefault);
  if (it == named_.end()) {
    std::string known;
    for (const auto& [key, named] : named_) known += (known.empty() ? "" : ", ") + key;
    throw InvalidRequest(
        fmt::format("{}: has no chat template called {}; there is {}", where_, name.empty() ? kDefault : name, known));
  }
  if (!it->second->fault.empty()) throw InvalidRequest(it->second->fault);
  return *it->second;
}

Prompt ChatTemplate::render(const Json& messages, const Json& tools, const RenderOptions& options) const {
  check_messages(messages);
  const Named& chosen = choose(tools, options.template_name);
  if (options.continue_final_message) return render_continued(chosen, messages, tools, options);
  return render_values(
      chosen, options.as_given ? jinja::from_json(messages, Origin::kUser) : message_values(messages, chosen.style),
      tools, options);
}

// The text of the last message is marked and found again by its mark, so that it may be spelled like anything else in
// the prompt.
Prompt ChatTemplate::render_continued(const Named& chosen, const Json& messages, const Json& tools,
                                      const RenderOptions& options) const {
  if (messages.empty()) throw InvalidRequest("messages: there is none whose text could be continued");
  const Prompt plain = render_values(chosen, message_values(messages, chosen.style, true), tools, options);
  if (has_continued(plain)) return cut_at_continued(plain, true);
  // An empty text, or one that the template leaves out: its place is that of what stands behind it.
  const Prompt marked = render_values(chosen, message_values(messages, chosen.style, true, kPlaceMark), tools, options);
  if (!has_continued(marked))
    throw InvalidRequest(chosen.name + ": does not write the last message, it cannot be continued");
  return cut_at_continued(marked, false);
}

Prompt ChatTemplate::render_values(const Named& chosen, jinja::Value messages, const Json& tools,
                                   const RenderOptions& options) const {
  Variables variables = given_variables(options.variables);
  variables["messages"] = std::move(messages);
  variables["tools"] = jinja::from_json(tools, Origin::kUser);
  variables.try_emplace("documents", jinja::None{});
  variables["add_generation_prompt"] = options.add_generation_prompt && !options.continue_final_message;
  variables["bos_token"] = jinja::make_text(bos_token_, Origin::kTemplate);
  variables["eos_token"] = jinja::make_text(eos_token_, Origin::kTemplate);
  return jinja::render(chosen.body, chosen.name, std::move(variables));
}

const std::string& ChatTemplate::source() const {
  const auto it = named_.find(kDefault);
  return (it == named_.end() ? named_.begin() : it)->second->source;
}

bool ChatTemplate::mentions(const std::string& variable) const {
  return std::any_of(named_.begin(), named_.end(),
                     [&](const auto& named) { return named.second->source.find(variable) != std::string::npos; });
}

std::string ChatTemplate::family() const {
  const auto has = [&](const char* marker) { return source().find(marker) != std::string::npos; };
  if (has("<|im_system|>")) return has("tool_calls_section_begin") ? "kimi-k2" : "moonlight";
  if (has("<｜Assistant｜>")) {
    if (has("thinking")) return "deepseek-v3.1";
    return has("<｜Assistant｜><think>") ? "deepseek-r1" : "deepseek-v3";
  }
  return has("'User: '") || has("User: ") ? "deepseek-v2" : "other";
}

}  // namespace hadal::tokenizer
