#include <map>
#include <set>

#include "hadal/chat/answer_reader.h"
#include "hadal/chat/next_turn.h"
#include "hadal/serve/api/chat.h"
#include "hadal/serve/api/json.h"
#include "hadal/serve/api/logprobs.h"

namespace hadal::serve {
namespace {

using chat::Event;

// A message, or what is new of one, from the events of an answer.
class MessageParts {
 public:
  void add(chat::Events events) {
    for (Event& e : events) {
      if (e.kind == Event::Kind::kReasoning) reasoning_ += e.text;
      if (e.kind == Event::Kind::kContent) content_ += e.text;
      if (e.kind == Event::Kind::kToolBegin) begin_call(e);
      if (e.kind == Event::Kind::kToolArguments)
        call(e.call)["function"]["arguments"].get_ref<std::string&>() += e.text;
    }
  }
  void add_content(const std::string& text) { content_ += text; }
  bool empty() const { return reasoning_.empty() && content_.empty() && calls_.empty(); }

  // Of a stream; what there is, is taken.
  Json delta(bool first) {
    Json out = Json::object();
    if (first) out["role"] = "assistant";
    if (!reasoning_.empty()) out["reasoning_content"] = reasoning_;
    if (!content_.empty() || (first && empty())) out["content"] = content_;
    if (!calls_.empty()) out["tool_calls"] = list(true);
    *this = {};
    return out;
  }
  Json message() const {
    Json out = {{"role", "assistant"}, {"content", content_.empty() && !calls_.empty() ? Json() : Json(content_)}};
    if (!reasoning_.empty()) out["reasoning_content"] = reasoning_;
    if (!calls_.empty()) out["tool_calls"] = list(false);
    return out;
  }

 private:
  void begin_call(const Event& e) {
    Json& j = call(e.call);
    j["id"] = e.id;
    j["type"] = "function";
    j["function"] = {{"name", e.name}, {"arguments", ""}};
  }
  Json& call(int number) {
    const auto [it, made] = calls_.try_emplace(number);
    if (made) it->second["function"] = {{"arguments", ""}};
    return it->second;
  }
  Json list(bool indices) const {
    Json out = Json::array();
    for (const auto& [number, call] : calls_) {
      Json one = Json::object();
      if (indices) one["index"] = number;
      one.update(call);
      out.push_back(std::move(one));
    }
    return out;
  }

  std::string reasoning_, content_;
  std::map<int, Json> calls_;
};

class ChatAnswer : public GenerationAnswer {
 public:
  ChatAnswer(const ServedModel& model, EngineLoop& loop, ChatRequest request, std::unique_ptr<Account> account,
             IdleWork* idle)
      : GenerationAnswer(model, loop, std::move(request.generation), std::move(account)),
        form_(std::move(request.form)) {
    // Of several answers, which one the conversation goes on with is not known.
    if (!idle || generation_.n > 1) return;
    idle_ = idle;
    bytes_ = request.bytes;
    conversation_ = std::move(request.conversation);
  }

 private:
  // How an answer is read, and what of it has not been sent.
  struct Reading {
    chat::AnswerReader reader;
    MessageParts parts = {}, all = {};  // all: for the next turn
    bool begun = false;
  };

  const char* object(bool chunk) const override { return chunk ? "chat.completion.chunk" : "chat.completion"; }

  // With special tokens in it, the text is not taken apart.
  bool as_text() const { return !generation_.skip_special; }

  Reading& reading(const Choice& choice) const {
    const auto it = readings_.find(choice.index);
    if (it != readings_.end()) return it->second;
    chat::AnswerOptions options{.thinking_open = form_.thinking_open, .tools = form_.tools.may_call()};
    options.call_prefix = fmt::format("call_{}_{}_", generation_.id.substr(generation_.id.find('-') + 1), choice.index);
    chat::AnswerReader reader(*model_.tokenizer, *model_.format, std::move(options), generation_.stop);
    return readings_.emplace(choice.index, Reading{std::move(reader)}).first->second;
  }

  void push(Choice& choice, TokenId id) override {
    Reading& r = reading(choice);
    if (as_text()) return append(choice, choice.text.push(id, may_stop(choice)));
    const bool thought = r.reader.thinking();
    if (choice.ended_by != id) add(r, r.reader.push(id, may_stop(choice)));
    if (thought || r.reader.thinking()) ++choice.reasoning_tokens;
  }

  void finish(Choice& choice) override {
    Reading& r = reading(choice);
    if (as_text())
      append(choice, choice.text.finish());
    else
      add(r, r.reader.finish());
  }

  const std::string& found(const Choice& choice) const override {
    return as_text() ? choice.text.found() : reading(choice).reader.found();
  }
  void append(Choice& choice, const std::string& text) override {
    Reading& r = reading(choice);
    r.parts.add_content(text);
    if (idle_) r.all.add_content(text);
  }
  void add(Reading& r, chat::Events events) const {
    if (idle_) r.all.add(events);
    r.parts.add(std::move(events));
  }

  std::string finish_reason(const Choice& choice) const override {
    const std::string reason = GenerationAnswer::finish_reason(choice);
    return reason == "stop" && reading(choice).reader.calls() > 0 ? "tool_calls" : reason;
  }

  Json piece(Choice& choice, bool ended) override {
    Reading& r = reading(choice);
    if (r.parts.empty() && choice.new_samples.empty() && !ended) return nullptr;
    Json out = {{"index", choice.index}, {"delta", r.parts.delta(!r.begun)}};
    r.begun = true;
    complete(out, choice, ended);
    return out;
  }

  Json whole_choice(Choice& choice) override {
    Json out = {{"index", choice.index}, {"message", reading(choice).parts.message()}};
    complete(out, choice, true);
    return out;
  }

  void complete(Json& out, const Choice& choice, bool ended) const {
    const auto& samples = choice.new_samples;
    out["logprobs"] = generation_.logprobs() >= 0 ? chat_logprobs(model_, generation_, samples) : Json();
    out["finish_reason"] = ended ? Json(finish_reason(choice)) : Json();
    if (ended) out["stop_reason"] = stop_reason(choice);
    if (generation_.return_token_ids) out["token_ids"] = ids_of(samples);
  }

  void add_to_whole(Json& whole) override {
    if (generation_.request.prompt_logprobs >= 0)
      whole["prompt_logprobs"] = prompt_logprobs(model_, generation_, choices_[0].completion->prompt_logprobs);
    if (generation_.return_token_ids) whole["prompt_token_ids"] = generation_.prompts[0].ids;
  }

  // The next turn's prompt will have the answer as the template writes it, which is not what is in the cache now.
  void completed() override {
    if (!idle_) return;
    const auto make = [&model = model_, c = std::move(conversation_), message = reading(choices_[0]).all.message(),
                       salt = generation_.request.cache_salt, reuse = generation_.request.reuse] {
      return EngineLoop::Prefill{
          chat::next_turn(*model.tokenizer, *model.chat_template, c.messages, c.tools, c.render, message), salt, reuse};
    };
    idle_->add({.make = make, .bytes = bytes_});
  }

  Form form_;
  IdleWork* idle_ = nullptr;
  Conversation conversation_;  // with it
  std::size_t bytes_ = 0;
  mutable std::map<std::size_t, Reading> readings_;  // by choice, made when it is needed
};

}  // namespace

std::unique_ptr<GenerationAnswer> chat_answer(const ServedModel& model, EngineLoop& loop, ChatRequest request,
                                              std::unique_ptr<Account> account, IdleWork* idle) {
  return std::make_unique<ChatAnswer>(model, loop, std::move(request), std::move(account), idle);
}

}  // namespace hadal::serve
