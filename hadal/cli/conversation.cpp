#include "hadal/cli/conversation.h"

#include "hadal/cli/expert_stats.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kThink = "<think>";

// R1's and V3.1's prompts end with the opening tag, so that the answer itself has none (rule 7): it is shown all the
// same.
std::string opening_of(std::string_view prompt) {
  while (prompt.ends_with('\n')) prompt.remove_suffix(1);
  return prompt.ends_with(kThink) ? std::string(kThink) + "\n" : "";
}

double rate(double count, double seconds) {
  return seconds > 0 ? count / seconds : 0;
}

}  // namespace

Conversation::Conversation(TextModel& model, SamplingOptions sampling, tokenizer::RenderOptions render)
    : model_(model), sampling_(std::move(sampling)), render_(std::move(render)) {
  render_.add_generation_prompt = true;
  model.chat_template();  // fail now rather than at the first message
  sampling_.params(model.defaults());
}

void Conversation::clear() {
  messages_ = Json::array();
  if (!system_.empty()) messages_.push_back({{"role", "system"}, {"content", system_}});
}

void Conversation::set_system(const std::string& text) {
  system_ = text;
  clear();
}

bool Conversation::set_thinking(bool on) {
  const Json question = Json::array({{{"role", "user"}, {"content", "?"}}});
  const auto with = [&](bool thinking) {
    tokenizer::RenderOptions options = render_;
    options.variables["thinking"] = options.variables["enable_thinking"] = thinking;
    return options;
  };
  const auto rendered = [&](bool thinking) {
    return model_.chat_template().render(question, nullptr, with(thinking)).text;
  };
  if (rendered(true) == rendered(false)) return false;
  render_ = with(on);
  return true;
}

TextAnswer Conversation::answer(const std::string& message, const std::function<bool(const std::string&)>& on_text) {
  messages_.push_back({{"role", "user"}, {"content", message}});
  TextAnswer out;
  std::string opening;
  try {
    const tokenizer::Prompt prompt = model_.chat_template().render(messages_, nullptr, render_);
    opening = opening_of(prompt.text);
    infer::Request request;
    request.prompt = model_.tokenizer().encode(prompt);
    request.sampling = sampling_.params(model_.defaults());
    request.max_tokens = sampling_.max_tokens.value_or(0);
    request.stop_token_ids = model_.end_tokens();
    request.reuse = infer::CacheReuse::kAny;
    bool first = true;
    out = model_.answer(request, sampling_.stop, [&](const std::string& text) {
      return on_text(!text.empty() && std::exchange(first, false) ? opening + text : text);
    });
  } catch (...) {
    messages_.erase(messages_.size() - 1);
    throw;
  }
  last_ = out.completion;
  messages_.push_back({{"role", "assistant"}, {"content", opening + out.text}});
  return out;
}

std::string Conversation::stats() const {
  const auto generated = static_cast<double>(last_.tokens.size());
  const std::string experts = model_.store() ? stats_text(model_.store()) + "\n" : "";
  return fmt::format(
      "prompt {} tokens ({} from the cache), {:.1f} tok/s; answer {} tokens, {:.1f} tok/s; context {}\n{}\n{}",
      last_.prompt_tokens, last_.cached_tokens,
      rate(static_cast<double>(last_.prompt_tokens - last_.cached_tokens), last_.prompt_seconds), last_.tokens.size(),
      rate(generated - 1, last_.decode_seconds), model_.engine().context(), describe(model_.speculation()), experts);
}

}  // namespace hadal::cli
