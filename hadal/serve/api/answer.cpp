#include "hadal/serve/api/answer.h"

#include <algorithm>

#include "hadal/serve/api/json.h"

namespace hadal::serve {

using infer::FinishReason;

std::string event(const Json& data) {
  return "data: " + text_of(data) + "\n\n";
}

Json ids_of(const std::vector<infer::Sample>& samples) {
  Json out = Json::array();
  for (const infer::Sample& s : samples) out.push_back(s.id);
  return out;
}

GenerationAnswer::GenerationAnswer(const ServedModel& model, EngineLoop& loop, Generation generation,
                                   std::unique_ptr<Account> account)
    : model_(model), generation_(std::move(generation)), loop_(loop), account_(std::move(account)) {}

GenerationAnswer::~GenerationAnswer() {
  cancel_rest();
  if (!account_) return;
  const Tally used = tally();
  account_->charge(
      {static_cast<std::uint64_t>(used.prompt_tokens), static_cast<std::uint64_t>(used.completion_tokens)});
}

void GenerationAnswer::begin(const std::string& prompt_field, const Wake& wake) {
  if (account_) account_->enter(generation_.request);
  std::vector<infer::Request> requests = engine_requests(generation_, model_, prompt_field);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Prompt& prompt = generation_.prompts[i / static_cast<std::size_t>(generation_.n)];
    choices_.push_back(
        {.index = i,
         .prompt = &prompt,
         .text = AnswerText(model_.tokenizer, generation_.end_tokens, generation_.stop, generation_.skip_special)});
  }
  for (std::size_t i = 0; i < requests.size(); ++i) choices_[i].channel = loop_.submit(std::move(requests[i]), wake);
}

void GenerationAnswer::cancel_rest() {
  for (Choice& choice : choices_)
    if (!choice.ended() && choice.channel) loop_.end(choice.channel, FinishReason::kCancelled);
}

void GenerationAnswer::push(Choice& choice, TokenId id) {
  choice.new_text += choice.text.push(id, may_stop(choice));
}

void GenerationAnswer::finish(Choice& choice) {
  choice.new_text += choice.text.finish();
}

void GenerationAnswer::consume(Choice& choice, Received received) {
  for (const infer::Sample& sample : received.samples) {
    // Tokens that were on their way when the answer was cut.
    if (choice.cut) break;
    ++choice.tokens;
    const auto& ends = generation_.end_tokens;
    if (std::find(ends.begin(), ends.end(), sample.id) != ends.end()) choice.ended_by = sample.id;
    push(choice, sample.id);
    if (generation_.logprobs() >= 0 || generation_.return_token_ids) choice.new_samples.push_back(sample);
    if (found(choice).empty()) continue;
    choice.cut = true;
    if (generation_.include_stop) append(choice, found(choice));
    loop_.end(choice.channel, FinishReason::kStop);
  }
  if (!received.completion) return;
  choice.completion = std::move(received.completion);
  if (!choice.cut) finish(choice);
}

Output GenerationAnswer::advance(bool begun) {
  for (Choice& choice : choices_) {
    Received received = choice.channel->take();
    const auto failure = failure_of(received, received.completion);
    consume(choice, std::move(received));
    if (failure) return failed(*failure, begun);
  }
  const bool ended = std::all_of(choices_.begin(), choices_.end(), [](const Choice& c) { return c.ended(); });
  Output out;
  if (generation_.stream) {
    if (ended || !waits()) out.events = stream_pieces();
    if (ended) {
      if (generation_.include_usage) {
        Json last = envelope(true);
        last["choices"] = Json::array();
        last["usage"] = usage();
        out.events += event(last);
      }
      out.events += "data: [DONE]\n\n";
      out.ended = true;
    }
  } else if (ended) {
    Json whole = envelope(false);
    whole["choices"] = Json::array();
    for (Choice& choice : choices_) whole["choices"].push_back(whole_choice(choice));
    whole["usage"] = usage();
    add_to_whole(whole);
    out.whole = HttpResponse{.body = text_of(whole)};
    out.ended = true;
  }
  over_ |= out.ended;
  const auto cancelled = [](const Choice& c) { return c.completion->finish_reason == FinishReason::kCancelled; };
  if (out.ended && std::none_of(choices_.begin(), choices_.end(), cancelled)) completed();
  return out;
}

std::string GenerationAnswer::stream_pieces() {
  std::string out;
  for (Choice& choice : choices_) {
    if (choice.sent_end) continue;
    const Json json = piece(choice, choice.ended());
    choice.sent_end = choice.ended();
    choice.new_text.clear();
    choice.new_samples.clear();
    if (json.is_null()) continue;
    // What all chunks have in common is written once: a small model's tokens are quicker than their JSON.
    if (chunk_begin_.empty()) {
      chunk_begin_ = "data: " + text_of(envelope(true));
      chunk_begin_.back() = ',';
    }
    out += chunk_begin_ + "\"choices\":[" + text_of(json) + "]";
    if (generation_.continuous_usage)
      out += ",\"usage\":" + text_of(usage());
    else if (generation_.include_usage)
      out += ",\"usage\":null";
    out += "}\n\n";
  }
  return out;
}

std::optional<ApiError> failure_of(const Received& received, const std::optional<infer::Completion>& completion) {
  if (received.failure) return ApiError::of(*received.failure);
  if (!completion) return std::nullopt;
  if (completion->finish_reason == FinishReason::kError) return ApiError(500, completion->error);
  if (completion->finish_reason == FinishReason::kDeadline)
    return ApiError(504, "the time for a request is over", "", "deadline");
  return std::nullopt;
}

// The openai packages know an error inside a stream by its data, not by an event's name.
Output GenerationAnswer::failed(const ApiError& error, bool begun) {
  cancel_rest();
  over_ = true;
  Output out{.ended = true};
  if (begun)
    out.events = event(error.json()) + "data: [DONE]\n\n";
  else
    out.whole = error.response();
  return out;
}

Json GenerationAnswer::envelope(bool chunk) const {
  return {{"id", generation_.id},
          {"object", object(chunk)},
          {"created", generation_.created},
          {"model", model_.name()},
          {"system_fingerprint", model_.fingerprint}};
}

Json GenerationAnswer::usage() const {
  std::int64_t prompt = 0, completion = 0, cached = 0, reasoning = 0, drafted = 0, accepted = 0;
  for (const Prompt& p : generation_.prompts) prompt += static_cast<std::int64_t>(p.ids.size());
  for (const Choice& choice : choices_) {
    completion += choice.tokens;
    reasoning += choice.reasoning_tokens;
    if (!choice.completion) continue;
    // A prompt counts once, however many answers there are to it.
    if (choice.index % static_cast<std::size_t>(generation_.n) == 0) cached += choice.completion->cached_tokens;
    drafted += choice.completion->drafted_tokens;
    accepted += choice.completion->accepted_tokens;
  }
  return {{"prompt_tokens", prompt},
          {"completion_tokens", completion},
          {"total_tokens", prompt + completion},
          {"prompt_tokens_details", {{"cached_tokens", cached}}},
          {"completion_tokens_details",
           {{"reasoning_tokens", reasoning},
            {"drafted_tokens", drafted},
            {"accepted_prediction_tokens", accepted},
            {"rejected_prediction_tokens", drafted - accepted}}},
          {"prompt_cache_hit_tokens", cached},
          {"prompt_cache_miss_tokens", prompt - cached}};
}

std::string GenerationAnswer::finish_reason(const Choice& choice) const {
  if (choice.cut) return "stop";
  return choice.completion->finish_reason == FinishReason::kLength ? "length" : "stop";
}

// What vLLM says beside finish_reason: the stop string, the token that is not the model's own end, or null.
Json GenerationAnswer::stop_reason(const Choice& choice) const {
  if (choice.cut) return found(choice);
  const auto& own = model_.end_tokens;
  if (choice.ended_by && std::find(own.begin(), own.end(), *choice.ended_by) == own.end()) return *choice.ended_by;
  return nullptr;
}

Tally GenerationAnswer::tally() const {
  Tally out;
  if (account_) out.key = account_->name();
  for (const Prompt& p : generation_.prompts) out.prompt_tokens += static_cast<std::int64_t>(p.ids.size());
  for (const Choice& choice : choices_) {
    out.completion_tokens += choice.tokens;
    if (!choice.completion) continue;
    out.cached_tokens += choice.completion->cached_tokens;
    if (out.finish_reason.empty()) out.finish_reason = finish_reason(choice);
  }
  return out;
}

}  // namespace hadal::serve
