// A model directory made ready to answer in text: weights, engine, tokenizer, template and defaults. What chat and
// generate share.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hadal/chat/constraints.h"
#include "hadal/cli/options.h"
#include "hadal/serve/served_model.h"
#include "hadal/stream/loader.h"
#include "hadal/tokenizer/chat_template.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::cli {

struct TextAnswer {
  std::string text;  // without special tokens and without the stop string
  infer::Completion completion;
  std::vector<infer::Sample> samples;  // with log-probabilities, if they were asked for
};

// The stop strings of the request with this index.
using StopsOf = std::function<const std::vector<std::string>&(std::size_t)>;

class TextModel {
 public:
  // `sequences`: that its engine runs at a time.
  TextModel(const std::filesystem::path& directory, const ComputeOptions& options, Index sequences = 1);

  const io::GenerationConfig& defaults() const { return defaults_; }
  bool has_tokenizer() const { return tokenizer_.has_value(); }
  const tokenizer::Tokenizer& tokenizer() const;         // throws if there is none
  const tokenizer::ChatTemplate& chat_template() const;  // throws if there is none
  bool has_chat_template() const { return template_.has_value(); }
  infer::Engine& engine() { return *engine_; }
  const infer::Engine& engine() const { return *engine_; }
  Observers& observers() { return ctx_->observers; }
  // Answers with equal ones can be compared bit by bit: of what the model is and how it is computed.
  std::string fingerprint() const;
  const infer::PageStore* pages_on_disk() const { return pages_on_disk_.get(); }  // nullptr without --kv-disk
  const stream::ExpertStore* store() const { return model_.store.get(); }         // nullptr: everything is in memory
  infer::SpeculationStats speculation() const;                                    // of all answers so far
  const config::Config& config() const { return model_.transformer.config; }

  // The ids of a conversation: what the template wrote may be control tokens, what messages hold may not.
  std::vector<config::TokenId> encode_messages(const nlohmann::ordered_json& messages,
                                               const nlohmann::ordered_json& tools,
                                               const tokenizer::RenderOptions& options) const;
  // Throws InvalidRequest for what cannot be answered: too many tokens, unknown ids, parameters out of range.
  void check(const infer::Request& request) const;
  // BOS (if the model has one) and the text, no template.
  std::vector<config::TokenId> encode_raw(std::string_view text) const;

  // What answers have to obey; nullptr: nothing. Throws InvalidRequest for what cannot be enforced.
  std::shared_ptr<grammar::TokenConstraint> constraint(const chat::ConstraintRequest& request,
                                                       std::span<const config::TokenId> ends) const;

  // Tokens that end an answer (end_tokens.h), the chat template's end of a turn among them.
  const std::vector<config::TokenId>& end_tokens() const { return end_tokens_; }

  // `on_text` is given whole characters as they come; returning false cancels.
  TextAnswer answer(const infer::Request& request, const std::vector<std::string>& stop,
                    const std::function<bool(const std::string&)>& on_text);

  // All requests, up to `batch` of them decoded together; `on_answer` is given the answers as they end, with the index
  // of the request. Throws Interrupted after Ctrl-C: answers that have not ended are lost.
  void answer_all(std::span<const infer::Request> requests, const StopsOf& stops, Index batch,
                  const std::function<void(std::size_t, const TextAnswer&)>& on_answer);

 private:
  void open_pages(const ComputeOptions& options);

  std::filesystem::path directory_;
  std::unique_ptr<Context> ctx_;
  stream::LoadedModel model_;
  io::GenerationConfig defaults_;
  std::optional<tokenizer::Tokenizer> tokenizer_;
  std::optional<tokenizer::ChatTemplate> template_;
  std::vector<config::TokenId> end_tokens_;
  std::unique_ptr<chat::AnswerFormat> format_;  // with a tokenizer
  std::unique_ptr<serve::LazyCompiler> compiler_ = std::make_unique<serve::LazyCompiler>();
  infer::EngineOptions engine_options_;
  std::unique_ptr<infer::PageStore> pages_on_disk_;
  std::unique_ptr<infer::Engine> engine_;
  infer::SpeculationStats of_batches_;
};

}  // namespace hadal::cli
