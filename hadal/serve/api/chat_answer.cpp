#include <set>

#include "hadal/serve/api/chat.h"
#include "hadal/serve/api/json.h"
#include "hadal/serve/api/logprobs.h"

namespace hadal::serve {
namespace {

class ChatAnswer : public GenerationAnswer {
 public:
  ChatAnswer(const ServedModel& model, EngineLoop& loop, ChatRequest request, std::unique_ptr<Account> account)
      : GenerationAnswer(model, loop, std::move(request.generation), std::move(account)) {}

 private:
  const char* object(bool chunk) const override { return chunk ? "chat.completion.chunk" : "chat.completion"; }

  Json piece(Choice& choice, bool ended) override {
    if (choice.new_text.empty() && choice.new_samples.empty() && !ended) return nullptr;
    Json delta = Json::object();
    if (begun_.insert(choice.index).second) delta["role"] = "assistant";
    if (!choice.new_text.empty() || delta.contains("role")) delta["content"] = choice.new_text;
    Json out = {{"index", choice.index}, {"delta", std::move(delta)}};
    finish(out, choice, choice.new_samples, ended);
    if (generation_.return_token_ids) out["token_ids"] = ids_of(choice.new_samples);
    return out;
  }

  Json whole_choice(Choice& choice) override {
    Json out = {{"index", choice.index}, {"message", {{"role", "assistant"}, {"content", choice.new_text}}}};
    finish(out, choice, choice.new_samples, true);
    if (generation_.return_token_ids) out["token_ids"] = ids_of(choice.new_samples);
    return out;
  }

  void finish(Json& out, const Choice& choice, const std::vector<infer::Sample>& samples, bool ended) const {
    out["logprobs"] = generation_.logprobs() >= 0 ? chat_logprobs(model_, generation_, samples) : Json();
    out["finish_reason"] = ended ? Json(finish_reason(choice)) : Json();
    if (ended) out["stop_reason"] = stop_reason(choice);
  }

  void add_to_whole(Json& whole) override {
    if (generation_.request.prompt_logprobs >= 0)
      whole["prompt_logprobs"] = prompt_logprobs(model_, generation_, choices_[0].completion->prompt_logprobs);
    if (generation_.return_token_ids) whole["prompt_token_ids"] = generation_.prompts[0].ids;
  }

  static Json ids_of(const std::vector<infer::Sample>& samples) {
    Json out = Json::array();
    for (const infer::Sample& s : samples) out.push_back(s.id);
    return out;
  }

  std::set<std::size_t> begun_;
};

}  // namespace

std::unique_ptr<GenerationAnswer> chat_answer(const ServedModel& model, EngineLoop& loop, ChatRequest request,
                                              std::unique_ptr<Account> account) {
  return std::make_unique<ChatAnswer>(model, loop, std::move(request), std::move(account));
}

}  // namespace hadal::serve
