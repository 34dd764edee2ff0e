#include "hadal/cli/text_model.h"

#include <algorithm>
#include <map>

#include "hadal/chat/markup.h"
#include "hadal/checkpoint/model_directory.h"
#include "hadal/cli/memory_plan.h"
#include "hadal/core/log.h"
#include "hadal/infer/batch_engine.h"
#include "hadal/io/checkpoint_identity.h"
#include "hadal/io/free_memory.h"
#include "hadal/model/page_pool.h"
#include "hadal/serve/answer_text.h"
#include "hadal/serve/end_tokens.h"

namespace hadal::cli {

using config::TokenId;

namespace {

// An answer on its way: its text so far.
class OpenAnswer {
 public:
  OpenAnswer(const tokenizer::Tokenizer* tokenizer, const infer::Request& request, const std::vector<std::string>& stop)
      : keep_samples_(request.sampling.top_logprobs >= 0),
        min_tokens_(request.min_tokens),
        text_(tokenizer, request.stop_token_ids, stop) {}

  // What can be shown now.
  std::string push(const infer::Sample& sample) {
    if (keep_samples_) samples_.push_back(sample);
    return add(text_.push(sample.id, ++tokens_ > min_tokens_));
  }
  std::string finish() { return add(text_.finish()); }
  bool stopped() const { return text_.stopped(); }
  TextAnswer answer(infer::Completion completion) {
    return {std::move(shown_), std::move(completion), std::move(samples_)};
  }

 private:
  std::string add(std::string shown) {
    shown_ += shown;
    return shown;
  }

  bool keep_samples_;
  Index min_tokens_, tokens_ = 0;
  serve::AnswerText text_;
  std::string shown_;
  std::vector<infer::Sample> samples_;
};

// Of how many tokens many clients ask is not known: their caches get half of the memory that is free, and at least what
// one sequence can come to need.
Index pages_for_many(const config::Config& config, const infer::EngineOptions& options) {
  const infer::EngineOptions resolved = infer::resolve(options, config);
  const model::PagePool pool(config, config.num_hidden_layers, options.cache_dtype);
  return std::max(model::pages_for(resolved.context), static_cast<Index>(io::free_memory() / 2 / pool.page_bytes()));
}

}  // namespace

TextModel::TextModel(const std::filesystem::path& directory, const ComputeOptions& options, Index sequences)
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
                     .sequences = sequences,
                     .kept_bytes = model_.kept_bytes,
                     .speculate = options.speculation()};
  // Beside experts that come from disk, caches have what those that run need, no more.
  if (model_.store) engine_options_.cached_bytes = 0;
  if (sequences > 1 && model_.store)
    plan_memory(*ctx_, model_, engine_options_);
  else if (sequences > 1)
    engine_options_.max_pages = pages_for_many(config(), engine_options_);
  if (options.speculation() == infer::Speculate::kMtp && model_.transformer.mtp.empty())
    log_warning("--speculate mtp: {} has no MTP layer, nothing is drafted", directory.string());
  if (tokenizer::Tokenizer::exists(directory)) {
    tokenizer_ = tokenizer::Tokenizer::load(directory);
    engine_options_.num_tokens = tokenizer_->vocab_size();
    if (tokenizer::ChatTemplate::exists(directory)) template_ = tokenizer::ChatTemplate::load(directory);
    format_ = std::make_unique<chat::AnswerFormat>(tokenizer_->added_tokens(),
                                                   chat::markup_of(template_ ? &*template_ : nullptr, *tokenizer_));
  }
  end_tokens_ = serve::end_tokens(defaults_, config(), tokenizer_ ? &*tokenizer_ : nullptr).ids;
  // Whatever the files say: behind it would come a turn that is not the model's.
  if (const auto end = template_ ? serve::end_of_turn(*template_, *tokenizer_) : std::nullopt;
      end && std::find(end_tokens_.begin(), end_tokens_.end(), *end) == end_tokens_.end()) {
    log_info("the chat template ends a turn with {}, which is none of the end tokens; it ends answers too",
             tokenizer_->token_bytes(*end));
    end_tokens_.push_back(*end);
  }
  open_pages(options);
  engine_ = std::make_unique<infer::Engine>(*ctx_, model_.transformer, engine_options_);
}

// Only pages with the same bits may be found: of these weights, computed by this program in the same way.
void TextModel::open_pages(const ComputeOptions& options) {
  if (options.kv_disk.empty()) return;
  const std::uint64_t size = checkpoint::parse_size(options.kv_disk_size, "--kv-disk-size");
  const model::CachePools pools = model_.transformer.new_pools(engine_options_.cache_dtype, 0, 0, ctx_->memory);
  io::Sha256 owner;
  owner.digest(io::checkpoint_identity(directory_)).digest(io::file_digest("/proc/self/exe"));
  owner.text(isa_name(ctx_->numerics.isa)).text(activations_name(ctx_->numerics.activations));
  owner.text(infer::page_layout(pools));
  pages_on_disk_ = std::make_unique<infer::PageStore>(options.kv_disk, size, owner.finish());
  engine_options_.pages_on_disk = pages_on_disk_.get();
  const infer::PageStoreStats stats = pages_on_disk_->stats();
  log_info("--kv-disk: {} pages of {} tokens are there", stats.pages, model::kPageTokens);
}

std::string TextModel::fingerprint() const {
  const Numerics& n = ctx_->numerics;
  const std::string parts = fmt::format("{} {} {} {}", directory_.filename().string(), isa_name(n.isa),
                                        activations_name(n.activations), static_cast<int>(engine_options_.cache_dtype));
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : parts) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("fp_{:016x}", hash);
}

infer::SpeculationStats TextModel::speculation() const {
  infer::SpeculationStats stats = engine_->speculation();
  return stats += of_batches_;
}

const tokenizer::Tokenizer& TextModel::tokenizer() const {
  HADAL_CHECK(tokenizer_, "{}: has no tokenizer.json or tiktoken.model; give token ids (--prompt-ids, \"prompt_ids\")",
              directory_.string());
  return *tokenizer_;
}

const tokenizer::ChatTemplate& TextModel::chat_template() const {
  tokenizer();  // without one a template would be of no use, and was not read
  HADAL_CHECK(template_,
              "{}: has no chat template (chat_template.jinja or chat_template in tokenizer_config.json); use --raw",
              directory_.string());
  return *template_;
}

std::shared_ptr<grammar::TokenConstraint> TextModel::constraint(const chat::ConstraintRequest& request,
                                                                std::span<const TokenId> ends) const {
  const grammar::GrammarCompiler* compiler = request.guided ? &compiler_->get(tokenizer(), end_tokens_) : nullptr;
  return chat::make_constraint(request, *format_, tokenizer(), ends, compiler);
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
  OpenAnswer text(tokenizer_ ? &*tokenizer_ : nullptr, request, stop);
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
  std::map<std::size_t, OpenAnswer> open;
  infer::BatchEngine engine(*ctx_, model_.transformer, engine_options_, batch);
  engine.generate(
      requests,
      [&](std::size_t i, const infer::Sample& sample) {
        OpenAnswer& text =
            open.try_emplace(i, tokenizer_ ? &*tokenizer_ : nullptr, requests[i], stops(i)).first->second;
        text.push(sample);
        return text.stopped() ? infer::Continue::kStop : infer::Continue::kYes;
      },
      [&](std::size_t i, const infer::Completion& completion) {
        OpenAnswer& text = open.at(i);
        text.finish();
        on_answer(i, text.answer(completion));
        open.erase(i);
      });
  of_batches_ += engine.speculation();
}

}  // namespace hadal::cli
