// Answers on their way from the engine to JSON: what completions and chat completions have in common.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "hadal/serve/answer_text.h"
#include "hadal/serve/api/generation.h"
#include "hadal/serve/engine_loop.h"

namespace hadal::serve {

// One answer to one prompt.
struct Choice {
  std::size_t index = 0;
  const Prompt* prompt = nullptr;
  std::shared_ptr<Channel> channel = {};
  AnswerText text;
  std::string new_text = {};                    // since the last piece that was sent
  std::vector<infer::Sample> new_samples = {};  // also
  std::string all_text = {};                    // of answers that are not streamed
  std::vector<infer::Sample> all_samples = {};  // also; with log-probabilities or ids only
  std::int64_t tokens = 0;
  std::int64_t reasoning_tokens = 0;
  std::optional<TokenId> ended_by = {};  // the token that did
  bool cut = false;                      // at a stop string; the engine may not know yet
  std::optional<infer::Completion> completion = {};
  bool sent_end = false;

  bool ended() const { return completion.has_value(); }
};

// Who is charged.
class Account {
 public:
  virtual ~Account() = default;
  virtual void enter(infer::Request& request) const = 0;  // who asks, whose cache it shares
  virtual void charge(TokenUse use) = 0;
  virtual const std::string& name() const = 0;
};

class GenerationAnswer : public PendingAnswer {
 public:
  // The account is told what was used when this is destroyed.
  GenerationAnswer(const ServedModel& model, EngineLoop& loop, Generation generation, std::unique_ptr<Account> account);
  ~GenerationAnswer() override;

  // To the engine with it. Throws ApiError.
  void begin(const std::string& prompt_field, const Wake& wake);

  Output advance(bool begun) override;
  bool streams() const override { return generation_.stream; }
  Tally tally() const override;

 protected:
  using Json = nlohmann::ordered_json;

  // The chunk of a stream that tells what is new of a choice; null: nothing. `ended`: it is its last.
  virtual Json piece(Choice& choice, bool ended) = 0;
  // A choice of an answer in one piece.
  virtual Json whole_choice(Choice& choice) = 0;
  virtual const char* object(bool chunk) const = 0;
  // Not before there are min_tokens of them: as vLLM has it for stop strings, too.
  bool may_stop(const Choice& choice) const { return choice.tokens > generation_.request.min_tokens; }
  // The next token's text, or what is made of it.
  virtual void push(Choice& choice, TokenId id);
  // What was held back, behind the last token.
  virtual void finish(Choice& choice);
  // The stop string that has come; empty: none.
  virtual const std::string& found(const Choice& choice) const { return choice.text.found(); }
  // Text behind what has come.
  virtual void append(Choice& choice, const std::string& text) { choice.new_text += text; }
  virtual void add_to_whole(Json&) {}
  // All choices have ended by themselves, and what is left of the answer is on its way.
  virtual void completed() {}
  // Nothing can be sent before all has ended.
  virtual bool waits() const { return false; }

  Json envelope(bool chunk) const;
  Json usage() const;
  virtual std::string finish_reason(const Choice& choice) const;
  Json stop_reason(const Choice& choice) const;

  const ServedModel& model_;
  Generation generation_;
  std::vector<Choice> choices_;

 private:
  void consume(Choice& choice, Received received);
  Output failed(const ApiError& error, bool begun);
  std::string stream_pieces();
  void cancel_rest();

  EngineLoop& loop_;
  std::unique_ptr<Account> account_;
  std::string chunk_begin_;  // of the stream, as far as its choices
  bool over_ = false;
};

// What went wrong, if anything did.
std::optional<ApiError> failure_of(const Received& received, const std::optional<infer::Completion>& completion);

// Their token ids.
nlohmann::ordered_json ids_of(const std::vector<infer::Sample>& samples);

std::string event(const nlohmann::ordered_json& data);  // "data: {...}\n\n"

std::unique_ptr<GenerationAnswer> completion_answer(const ServedModel& model, EngineLoop& loop, Generation generation,
                                                    std::unique_ptr<Account> account);

}  // namespace hadal::serve
