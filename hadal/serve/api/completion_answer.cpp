// Answers of /v1/completions.
#include <map>
#include <set>

#include "hadal/serve/api/answer.h"
#include "hadal/serve/api/json.h"
#include "hadal/serve/api/logprobs.h"

namespace hadal::serve {
namespace {

class CompletionAnswer : public GenerationAnswer {
 public:
  using GenerationAnswer::GenerationAnswer;

 private:
  const char* object(bool) const override { return "text_completion"; }

  // With log-probabilities of the prompt nothing can be said before the end.
  bool waits() const override { return generation_.echo && generation_.logprobs() >= 0; }

  std::string echoed(const Choice& choice) const {
    if (!generation_.echo) return "";
    if (choice.prompt->text) return *choice.prompt->text;
    return model_.tokenizer ? model_.tokenizer->decode(choice.prompt->ids) : "";
  }

  Json piece(Choice& choice, bool ended) override {
    if (waits()) return whole_choice(choice);
    const bool first = begun_.insert(choice.index).second;
    const std::string text = (first ? echoed(choice) : "") + choice.new_text;
    if (text.empty() && choice.new_samples.empty() && !ended) return nullptr;
    Json out = choice_json(choice, text, ended);
    if (generation_.logprobs() >= 0) {
      CompletionLogprobs logprobs(model_, generation_, offsets_[choice.index]);
      for (const infer::Sample& s : choice.new_samples) logprobs.add(s);
      offsets_[choice.index] = logprobs.offset();
      out["logprobs"] = logprobs.take();
    }
    if (generation_.return_token_ids) out["token_ids"] = ids_of(choice.new_samples);
    return out;
  }

  // What is not sent yet is cleared after every piece.
  void keep(Choice& choice) {
    choice.all_text += choice.new_text;
    choice.all_samples.insert(choice.all_samples.end(), choice.new_samples.begin(), choice.new_samples.end());
    choice.new_text.clear();
    choice.new_samples.clear();
  }

  Json whole_choice(Choice& choice) override {
    keep(choice);
    Json out = choice_json(choice, echoed(choice) + choice.all_text, true);
    if (generation_.logprobs() >= 0) out["logprobs"] = whole_logprobs(choice);
    if (generation_.request.prompt_logprobs >= 0 && !waits())
      out["prompt_logprobs"] = prompt_logprobs(model_, generation_, choice.completion->prompt_logprobs);
    if (generation_.return_token_ids) {
      out["prompt_token_ids"] = choice.prompt->ids;
      out["token_ids"] = ids_of(choice.all_samples);
    }
    return out;
  }

  Json whole_logprobs(const Choice& choice) const {
    CompletionLogprobs logprobs(model_, generation_, 0);
    if (generation_.echo) {
      logprobs.add_first(choice.prompt->ids.front());
      const Choice& first = choices_[choice.index - choice.index % static_cast<std::size_t>(generation_.n)];
      for (const infer::Sample& s : first.completion->prompt_logprobs) logprobs.add(s);
    }
    for (const infer::Sample& s : choice.all_samples) logprobs.add(s);
    return logprobs.take();
  }

  Json choice_json(const Choice& choice, const std::string& text, bool ended) const {
    return {{"index", choice.index},
            {"text", text},
            {"logprobs", nullptr},
            {"finish_reason", ended ? Json(generation_.nothing_new ? "length" : finish_reason(choice)) : Json()},
            {"stop_reason", ended ? stop_reason(choice) : Json()}};
  }

  std::set<std::size_t> begun_;
  std::map<std::size_t, std::size_t> offsets_;
};

}  // namespace

std::unique_ptr<GenerationAnswer> completion_answer(const ServedModel& model, EngineLoop& loop, Generation generation,
                                                    std::unique_ptr<Account> account) {
  return std::make_unique<CompletionAnswer>(model, loop, std::move(generation), std::move(account));
}

}  // namespace hadal::serve
