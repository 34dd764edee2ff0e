#include "hadal/cli/text_model.h"

#include <algorithm>

#include "hadal/cli/stop_strings.h"
#include "hadal/tokenizer/stream_decoder.h"

namespace hadal::cli {

using model::TokenId;

TextModel::TextModel(const std::filesystem::path& directory, const ComputeOptions& options)
    : directory_(directory),
      ctx_(options.make_context()),
      model_(model::load_model(directory, {.threads = &ctx_->threads})),
      defaults_(io::load_generation_config(directory)) {
  infer::EngineOptions engine{
      .context = options.context, .chunk = options.chunk, .cache_dtype = options.cache_dtype(), .num_tokens = 0};
  if (tokenizer::Tokenizer::exists(directory)) {
    tokenizer_ = tokenizer::Tokenizer::load(directory);
    engine.num_tokens = tokenizer_->vocab_size();
    if (tokenizer::ChatTemplate::exists(directory)) template_ = tokenizer::ChatTemplate::load(directory);
  }
  end_tokens_ = defaults_.eos_token_ids;
  end_tokens_.insert(end_tokens_.end(), config().eos_token_ids.begin(), config().eos_token_ids.end());
  if (tokenizer_)
    if (const auto eos = tokenizer_->added_token(tokenizer_->config().eos_token)) end_tokens_.push_back(*eos);
  engine_ = std::make_unique<infer::Engine>(*ctx_, model_.transformer, engine);
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

std::vector<TokenId> TextModel::encode_raw(std::string_view text) const {
  std::vector<TokenId> ids = tokenizer().encode(text, tokenizer::AddedTokenMode::kIgnore);
  std::optional<TokenId> bos = config().bos_token_id;
  if (!bos) bos = tokenizer().added_token(tokenizer().config().bos_token);
  if (bos) ids.insert(ids.begin(), *bos);
  return ids;
}

TextAnswer TextModel::answer(infer::Request request, const std::vector<std::string>& stop,
                             const std::function<bool(const std::string&)>& on_text) {
  TextAnswer out;
  StopStrings stops(stop);
  std::optional<tokenizer::StreamDecoder> decoder;
  if (tokenizer_) decoder.emplace(*tokenizer_);
  const bool keep_samples = request.sampling.top_logprobs >= 0;
  const auto& ends = request.stop_token_ids;
  const auto show = [&](const std::string& text) {
    out.text += text;
    return on_text(text);
  };
  out.completion = engine_->generate(
      request,
      [&](const infer::Sample& sample) {
        if (keep_samples) out.samples.push_back(sample);
        const bool ended = std::find(ends.begin(), ends.end(), sample.id) != ends.end();
        // An end token that is not flagged special would otherwise show up in the text.
        if (ended || !decoder) return infer::Continue::kYes;
        const bool go_on = show(stops.push(decoder->push(sample.id)));
        if (stops.stopped()) return infer::Continue::kStop;
        return go_on ? infer::Continue::kYes : infer::Continue::kCancel;
      },
      // A prompt can take long; an empty piece of text only asks whether to go on.
      [&](Index, Index) { return on_text(""); });
  if (decoder && !stops.stopped()) {
    const std::string rest = stops.push(decoder->finish());
    show(stops.stopped() ? rest : rest + stops.finish());
  }
  return out;
}

}  // namespace hadal::cli
