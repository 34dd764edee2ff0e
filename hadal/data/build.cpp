#include "hadal/data/build.h"

#include <simdjson.h>

#include <algorithm>

#include "hadal/core/thread_pool.h"
#include "hadal/data/dataset_writer.h"
#include "hadal/data/digest_set.h"
#include "hadal/data/document_hash.h"
#include "hadal/data/fim.h"
#include "hadal/data/tokenizer_identity.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::data {
namespace {

// Documents are read, then worked on together, this much text at a time.
constexpr std::size_t kBatchBytes = std::size_t{8} << 20, kBatchDocuments = 8192;

struct Work {
  Document document;
  io::Digest digest{};
  std::string fault;  // why it is no text
  std::uint64_t text_bytes = 0;
  bool kept = true;
  Split split = Split::kTrain;
  std::optional<FimCut> cut;
  std::vector<TokenId> ids;
};

// Why a text is none; empty if it is.
std::string fault_of(std::string_view text) {
  if (const std::size_t zero = text.find('\0'); zero != text.npos) return fmt::format("byte {} is zero", zero);
  if (simdjson::validate_utf8(text.data(), text.size())) return "";
  std::size_t at = 0;
  while (at < text.size()) {
    const auto c = tokenizer::decode_utf8(text.substr(at));
    if (c.length == 0) break;
    at += c.length;
  }
  return fmt::format("byte {} (0x{:02X}) is not UTF-8", at, static_cast<unsigned char>(text[at]));
}

std::string repaired(std::string text) {
  std::replace(text.begin(), text.end(), '\0', '\xFF');
  return tokenizer::replace_invalid_utf8(text);
}

class Builder {
 public:
  Builder(const tokenizer::Tokenizer& tokenizer, const std::string& model, const std::filesystem::path& directory,
          const BuildOptions& options, const Progress& progress)
      : tokenizer_(tokenizer), model_(model), options_(options), progress_(progress), threads_(options.threads) {
    check_sources(options_.sources);
    check_options();
    if (options_.fim_rate > 0) fim_ = find_fim_tokens(tokenizer_, model_);
    for (const SourceSpec& source : options_.sources) files_.push_back(source_files(source));
    for (const auto& files : files_)
      for (const auto& file : files) total_ += size_of(file);
    writer_ = std::make_unique<DatasetWriter>(directory, describe(), options_.shard_bytes, options_.overwrite);
    if (!options_.keep_duplicates) seen_ = std::make_unique<DigestSet>(writer_->working());
  }

  DatasetInfo build() {
    for (std::size_t i = 0; i < files_.size(); ++i) {
      source_ = &writer_->begin_source(options_.sources[i].name);
      source_->weight = options_.sources[i].weight;
      source_->epochs = options_.sources[i].epochs;
      for (const auto& file : files_[i]) read_file(file);
      finish_batch();
      HADAL_CHECK(source_->train.documents + source_->validation.documents > 0, "source {}: its {} file{} {} no text{}",
                  source_->name, files_[i].size(), files_[i].size() == 1 ? "" : "s",
                  files_[i].size() == 1 ? "has" : "have", source_->duplicates > 0 ? " that was not there before" : "");
      writer_->end_source();
    }
    return writer_->finish();
  }

 private:
  void check_options() const {
    HADAL_CHECK(options_.fim_rate >= 0 && options_.fim_rate <= 1, "--fim-rate: {} is not between 0 and 1",
                options_.fim_rate);
    check_validation_share(options_.validation);
  }

  // Throws, too, for a file that is not there, before anything is written.
  static std::uint64_t size_of(const std::filesystem::path& file) {
    std::error_code status;
    HADAL_CHECK(std::filesystem::exists(file, status), "{}: there is no such file", file.string());
    const auto size = std::filesystem::file_size(file, status);
    return status ? 0 : size;
  }

  TokenId control_token(const std::string& spelling, const char* name, const char* without) const {
    const auto id = tokenizer_.added_token(spelling);
    HADAL_CHECK(id, "{}: its tokenizer_config.json names no {} token that it has; {} does without", model_, name,
                without);
    return *id;
  }

  DatasetInfo describe() {
    DatasetInfo info;
    info.tokenizer = tokenizer_identity(tokenizer_);
    info.vocab_size = static_cast<std::uint32_t>(tokenizer_.vocab_size());
    const auto& config = tokenizer_.config();
    if (options_.eos) eos_ = info.eos = control_token(config.eos_token, "eos", "--eos off");
    if (options_.bos.value_or(config.add_bos_token))
      bos_ = info.bos = control_token(config.bos_token, "bos", "--bos off");
    info.options = {{"fim_rate", options_.fim_rate},
                    {"validation", options_.validation},
                    {"seed", options_.seed},
                    {"keep_duplicates", options_.keep_duplicates}};
    return info;
  }

  void read_file(const std::filesystem::path& file) {
    DocumentReader reader(file, options_.documents);
    ++source_->files;
    std::uint64_t consumed = 0;
    const auto tell = [&] {
      done_ += reader.consumed() - consumed;
      consumed = reader.consumed();
    };
    Document document;
    while (reader.next(document)) {
      batch_bytes_ += document.text.size();
      batch_.emplace_back().document = std::move(document);
      document = {};
      tell();
      if (batch_bytes_ >= kBatchBytes || batch_.size() >= kBatchDocuments) finish_batch();
    }
    tell();
  }

  template <class Body>
  void for_each_of_batch(const Body& body) {
    threads_.parallel_for(static_cast<std::int64_t>(batch_.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) body(batch_[static_cast<std::size_t>(i)]);
    });
  }

  void finish_batch() {
    for_each_of_batch([&](Work& w) {
      w.fault = fault_of(w.document.text);
      if (!w.fault.empty() && options_.invalid == InvalidText::kReplace)
        w.document.text = repaired(std::move(w.document.text));
      w.digest = document_hash(w.document.text);
    });
    for (Work& w : batch_) decide(w);
    for_each_of_batch([&](Work& w) {
      if (w.kept) encode(w);
      w.document.text = {};
    });
    for (Work& w : batch_)
      if (w.kept) write(w);
    batch_.clear();
    batch_bytes_ = 0;
    if (progress_ && !progress_(done_, total_)) throw Interrupted("data build: interrupted, nothing was changed");
  }

  // In the order of the documents: what is kept of them.
  void decide(Work& w) {
    ++source_->documents_read;
    if (!w.fault.empty()) {
      ++source_->invalid;
      HADAL_CHECK(options_.invalid != InvalidText::kFail,
                  "{}: {}; is it a text? --invalid-utf8 skip leaves such documents out, replace repairs them",
                  w.document.where, w.fault);
      w.kept = options_.invalid == InvalidText::kReplace;
    }
    if (w.document.text.find_first_not_of(" \t\r\n\v\f") == std::string::npos) ++source_->empty, w.kept = false;
    if (w.kept && seen_ && !seen_->insert(w.digest)) ++source_->duplicates, w.kept = false;
    w.text_bytes = w.document.text.size();
  }

  void encode(Work& w) const {
    const std::string& text = w.document.text;
    if (is_validation(w.digest, options_.validation)) w.split = Split::kValidation;
    // Validation is about text as it stands.
    if (fim_ && w.split == Split::kTrain) w.cut = fim_cut(text, w.digest, options_.seed, options_.fim_rate);
    if (bos_) w.ids.push_back(*bos_);
    const auto ids = w.cut ? encode_fim(tokenizer_, *fim_, text, *w.cut)
                           : tokenizer_.encode(text, tokenizer::AddedTokenMode::kIgnore);
    w.ids.insert(w.ids.end(), ids.begin(), ids.end());
    if (eos_) w.ids.push_back(*eos_);
  }

  void write(const Work& w) {
    writer_->add(w.split, w.ids, w.text_bytes);
    source_->split(w.split).fim_documents += w.cut.has_value();
  }

  const tokenizer::Tokenizer& tokenizer_;
  const std::string& model_;
  const BuildOptions& options_;
  const Progress& progress_;
  ThreadPool threads_;
  std::vector<std::vector<std::filesystem::path>> files_;  // of each source
  std::optional<FimTokens> fim_;
  std::optional<TokenId> eos_, bos_;
  std::unique_ptr<DatasetWriter> writer_;
  std::unique_ptr<DigestSet> seen_;
  SourceInfo* source_ = nullptr;
  std::vector<Work> batch_;
  std::size_t batch_bytes_ = 0;
  std::uint64_t done_ = 0, total_ = 0;
};

}  // namespace

DatasetInfo build_dataset(const tokenizer::Tokenizer& tokenizer, const std::string& model,
                          const std::filesystem::path& directory, const BuildOptions& options,
                          const Progress& progress) {
  return Builder(tokenizer, model, directory, options, progress).build();
}

}  // namespace hadal::data
