#include "hadal/data/exchange.h"

#include <algorithm>

#include "hadal/data/dataset_writer.h"
#include "hadal/data/digest_set.h"
#include "hadal/data/document_hash.h"
#include "hadal/data/megatron.h"
#include "hadal/data/tokenizer_identity.h"

namespace hadal::data {
namespace {

constexpr std::uint64_t kTellEvery = 4096;  // documents

void tell(const Progress& progress, std::uint64_t done, std::uint64_t total) {
  if (progress && !progress(done, total)) throw Interrupted("data: interrupted, nothing was changed");
}

class Importer {
 public:
  Importer(const tokenizer::Tokenizer& tokenizer, const std::string& model, const ImportOptions& options,
           const Progress& progress)
      : tokenizer_(tokenizer), model_(model), options_(options), progress_(progress) {
    check_sources(options_.sources);
    check_validation_share(options_.validation);
    for (const SourceSpec& source : options_.sources)
      for (const auto& prefix : source.inputs) total_ += MegatronDataset(prefix).index().tokens();
  }

  DatasetInfo run(const std::filesystem::path& directory) {
    DatasetInfo info;
    info.tokenizer = tokenizer_identity(tokenizer_);
    info.vocab_size = static_cast<std::uint32_t>(tokenizer_.vocab_size());
    info.options = {
        {"imported", "Megatron"}, {"validation", options_.validation}, {"keep_duplicates", options_.keep_duplicates}};
    eos_ = tokenizer_.added_token(tokenizer_.config().eos_token);
    DatasetWriter writer(directory, std::move(info), options_.shard_bytes, options_.overwrite);
    if (!options_.keep_duplicates) seen_ = std::make_unique<DigestSet>(writer.working());
    for (const SourceSpec& spec : options_.sources) {
      SourceInfo& source = writer.begin_source(spec.name);
      source.weight = spec.weight;
      source.epochs = spec.epochs;
      for (const auto& prefix : spec.inputs) import(writer, source, prefix);
      HADAL_CHECK(source.train.documents + source.validation.documents > 0, "source {}: has no tokens", spec.name);
      writer.end_source();
    }
    if (eos_ && all_end_) writer.info().eos = *eos_;
    return writer.finish();
  }

 private:
  void import(DatasetWriter& writer, SourceInfo& source, const std::filesystem::path& prefix) {
    const MegatronDataset megatron(prefix);
    ++source.files;
    for (std::uint64_t i = 0; i < megatron.index().documents(); ++i) {
      const std::vector<TokenId> ids = megatron.document(i, tokenizer_.vocab_size());
      add(writer, source, ids, fmt::format("{}, document {}", megatron.prefix().string(), i));
      done_ += ids.size();
      if (i % kTellEvery != 0) continue;
      megatron.release();
      tell(progress_, done_, total_);
    }
  }

  void add(DatasetWriter& writer, SourceInfo& source, const std::vector<TokenId>& ids, const std::string& where) {
    ++source.documents_read;
    if (ids.empty()) {
      ++source.empty;
      return;
    }
    const auto strange = std::find_if(ids.begin(), ids.end(), [&](TokenId id) { return !tokenizer_.is_assigned(id); });
    HADAL_CHECK(strange == ids.end(), "{}: has token {}, which {} has not; was it made with another tokenizer?", where,
                *strange, model_);
    const std::string text = tokenizer_.decode(ids, true);
    const io::Digest digest = document_hash(text);
    if (seen_ && !seen_->insert(digest)) {
      ++source.duplicates;
      return;
    }
    all_end_ = all_end_ && ids.back() == eos_;
    writer.add(is_validation(digest, options_.validation) ? Split::kValidation : Split::kTrain, ids, text.size());
  }

  const tokenizer::Tokenizer& tokenizer_;
  const std::string& model_;
  const ImportOptions& options_;
  const Progress& progress_;
  std::unique_ptr<DigestSet> seen_;
  std::optional<TokenId> eos_;
  bool all_end_ = true;  // with eos
  std::uint64_t done_ = 0, total_ = 0;
};

}  // namespace

DatasetInfo import_megatron(const tokenizer::Tokenizer& tokenizer, const std::string& model,
                            const std::filesystem::path& directory, const ImportOptions& options,
                            const Progress& progress) {
  return Importer(tokenizer, model, options, progress).run(directory);
}

std::uint64_t export_megatron(const Dataset& dataset, const std::string& source, Split split,
                              const std::filesystem::path& prefix, const Progress& progress) {
  const auto& sources = dataset.info().sources;
  const auto it = std::find_if(sources.begin(), sources.end(), [&](const SourceInfo& s) { return s.name == source; });
  HADAL_CHECK(it != sources.end(), "{}: has no source {}", dataset.directory().string(), source);
  const SplitInfo& info = it->split(split);
  HADAL_CHECK(info.tokens > 0, "{}: source {} has no {} tokens", dataset.directory().string(), source,
              split_name(split));
  for (const char* extension : {".bin", ".idx"}) {
    std::error_code status;
    HADAL_CHECK(!std::filesystem::exists(prefix.string() + extension, status),
                "{}{}: exists already; remove it or name another prefix", prefix.string(), extension);
  }
  MegatronWriter writer(prefix, dataset.info().vocab_size);
  std::vector<TokenId> ids;
  std::uint64_t documents = 0, done = 0;
  for (const auto& shard : dataset.shards(static_cast<std::size_t>(it - sources.begin()), split)) {
    for (std::uint64_t i = 0; i < shard->documents(); ++i) {
      ids.resize(shard->begin_of(i + 1) - shard->begin_of(i));
      shard->read(shard->begin_of(i), ids);
      writer.add(ids);
      done += ids.size();
      if (documents++ % kTellEvery == 0) tell(progress, done, info.tokens);
    }
  }
  writer.finish();
  return documents;
}

}  // namespace hadal::data
