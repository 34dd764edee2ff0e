#include "hadal/cli/text_model.h"

#include <algorithm>
#include <map>

#include "hadal/cli/end_tokens.h"
#include "hadal/cli/stop_strings.h"
#include "hadal/core/log.h"
#include "hadal/infer/batch_engine.h"
#include "hadal/tokenizer/stream_decoder.h"

namespace hadal::cli {

using config::TokenId;

namespace {

// Turns the tokens of one answer into text: characters as they become whole, up to a stop string.
class AnswerText {
 public:
  AnswerText(const tokenizer::Tokenizer* tokenizer, const infer::Request& request, const std::vector<std::string>& stop)
      : ends_(request.stop_token_ids), keep_samples_(request.sampling.top_logprobs >= 0), stops_(stop) {
    if (tokenizer) decoder_.emplace(*tokenizer);
  }

  // What can be shown now.
  std::string push(const infer::Sample& sample) {
    if (keep_samples_) samples_.push_back(sample);
    // An end token that is not flagged special would otherwise show up in the text.
    const bool ended = std::find(ends_.begin(), ends_.end(), sample.id) != ends_.end();
    return ended || !decoder_ ? "" : add(stops_.push(decoder_->push(sample.id)));
  }
  std::string finish() {
    if (!decoder_ || stops_.stopped()) return "";
    const std::string rest = stops_.push(decoder_->finish());
    return add(stops_.stopped() ? rest : rest + stops_.finish());
  }
  bool stopped() const { return stops_.stopped(); }
  TextAnswer answer(infer::Completion completion) {
    return {std::move(text_), std::move(completion), std::move(samples_)};
  }

 private:
  std::string add(std::string shown) {
    text_ += shown;
    return shown;
  }

  std::vector<TokenId> ends_;
  bool keep_samples_;
  StopStrings stops_;
  std::optional<tokenizer::StreamDecoder> decoder_;
  std::string text_;
  std::vector<infer::Sample> samples_;
};

}  // namespace

TextModel::TextModel(const std::filesystem::path& directory, const ComputeOptions& options)
    : directory_(directory),
      ctx_(options.make_context()),
      model_(stream::load_model(directory, {.mtp = options.needs_mtp(),
                                            .mtp_expected = options.speculation() == infer::Speculate::kMtp,
                                            .stream = options.stream(),
                                            .ctx = ctx_.get(),
                                            .rearrange = options.rearrange()})),
      defaults_(io::load_generation_config(directory)) {
  engine_options_ = {.context = options.context,
                     .chunk = options.chunk,
                     .cache_dtype = options.cache_dtype(),
                     .kept_bytes = model_.kept_bytes,
                     .speculate = options.speculation()};
  if (options.speculation() == infer::Speculate::kMtp && model_.transformer.mtp.empty())
    log_warning("--speculate mtp: {} has no MTP layer, nothing is drafted", directory.string());
  if (tokenizer::Tokenizer::exists(directory)) {
    tokenizer_ = tokenizer::Tokenizer::load(directory);
    engine_options_.num_tokens = tokenizer_->vocab_size();
    if (tokenizer::ChatTemplate::exists(directory)) template_ = tokenizer::ChatTemplate::load(directory);
  }
  end_tokens_ = cli::end_tokens(defaults_, config(), tokenizer_ ? &*tokenizer_ : nullptr).ids;
  // Whatever the files say: behind it would come a turn that is not the model's.
  if (const auto end = template_ ? end_of_turn(*template_, *tokenizer_) : std::nullopt;
      end && std::find(end_tokens_.begin(), end_tokens_.end(), *end) == end_tokens_.end()) {
    log_info("the chat template ends a turn with {}, which is none of the end tokens; it ends answers too",
             tokenizer_->token_bytes(*end));
    end_tokens_.push_back(*end);
  }
  engine_ = std::make_unique<infer::Engine>(*ctx_, model_.transformer, engine_options_);
}

const tokenizer::Tokenizer& TextModel::tokenizer() const {
  HADAL_CHECK(tokenizer_, "{}: has no tokenizer.json or tiktoken.model; give token ids (--prompt-ids, \"prompt_ids\")",
              directory_.string());
  return *tokenizer_;
}

const tokenizer::ChatTemplate& TextModel::chat_template() const {
  HADAL_CHECK(template_,
              "{}: has no chat template (chat_template.jinja or chat_template in tokenizer_config.json); use --raw",
              directory_.string());
  return *template_;
}

std::vector<TokenId> TextModel::encode_messages(const nlohmann::ordered_json& messages,
                                                const nlohmann::ordered_json& tools,
                                                const tokenizer::RenderOptions& options) const {
  return tokenizer().encode(chat_template().render(messages, tools, options));
}

void TextModel::check(const infer::Request& request) const {
  infer::validate(request, infer::resolve(engine_options_, config()), config());
}

std::vector<TokenId> TextModel::encode_raw(std::string_view text) const {
  std::vector<TokenId> ids = tokenizer().encode(text, tokenizer::AddedTokenMode::kIgnore);
  std::optional<TokenId> bos = config().bos_token_id;
  if (!bos) bos = tokenizer().added_token(tokenizer().config().bos_token);
  if (bos) ids.insert(ids.begin(), *bos);
  return ids;
}

TextAnswer TextModel::answer(const infer::Request& request, const std::vector<std::string>& stop,
                             const std::function<bool(const std::string&)>& on_text) {
  AnswerText text(tokenizer_ ? &*tokenizer_ : nullptr, request, stop);
  infer::Completion completion = engine_->generate(
      request,
      [&](const infer::Sample& sample) {
        const bool go_on = on_text(text.push(sample));
        if (text.stopped()) return infer::Continue::kStop;
        return go_on ? infer::Continue::kYes : infer::Continue::kCancel;
      },
      // A prompt can take long; an empty piece of text only asks whether to go on.
      [&](Index, Index) { return on_text(""); });
  on_text(text.finish());
  return text.answer(std::move(completion));
}

void TextModel::answer_all(std::span<const infer::Request> requests, const StopsOf& stops, Index batch,
                           const std::function<void(std::size_t, const TextAnswer&)>& on_answer) {
  std::map<std::size_t, AnswerText> open;
  infer::BatchEngine engine(*ctx_, model_.transformer, engine_options_, batch);
  engine.generate(
      requests,
      [&](std::size_t i, const infer::Sample& sample) {
        AnswerText& text =
            open.try_emplace(i, tokenizer_ ? &*tokenizer_ : nullptr, requests[i], stops(i)).first->second;
        text.push(sample);
        return text.stopped() ? infer::Continue::kStop : infer::Continue::kYes;
      },
      [&](std::size_t i, const infer::Completion& completion) {
        AnswerText& text = open.at(i);
        text.finish();
        on_answer(i, text.answer(completion));
        open.erase(i);
      });
}

}  // namespace hadal::cli
