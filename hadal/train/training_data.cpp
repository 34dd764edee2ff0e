#include "hadal/train/training_data.h"

#include "hadal/data/tokenizer_identity.h"

namespace hadal::train {
namespace {

namespace fs = std::filesystem;

fs::path build_from_text(const TrainConfig& c, const tokenizer::Tokenizer& tokenizer, const data::Progress& progress) {
  const fs::path directory = fs::path(c.run_dir) / "data";
  if (data::Dataset::exists(directory)) return directory;
  data::BuildOptions options;
  data::SourceSpec source{.name = "text", .inputs = {}, .weight = {}, .epochs = {}};
  for (const std::string& path : c.data.text) source.inputs.emplace_back(path);
  options.sources = {source};
  if (!c.data.documents.empty()) {
    options.documents.division = data::division_from_name(c.data.documents);
    HADAL_CHECK(options.documents.division, "data.documents: {} is not known; file, lines, blank-lines and jsonl are",
                c.data.documents);
  }
  options.fim_rate = c.data.fim_rate;
  options.validation = c.data.validation;
  options.seed = c.seed;
  options.keep_duplicates = c.data.keep_duplicates;
  options.threads = c.threads;
  data::build_dataset(tokenizer, tokenizer_directory(c).string(), directory, options, progress);
  return directory;
}

}  // namespace

bool TrainingData::has_validation() const {
  for (const data::SourceInfo& source : dataset->info().sources)
    if (source.validation.tokens > 0) return true;
  return false;
}

std::optional<TokenId> TrainingData::before_text() const {
  return dataset->info().bos ? dataset->info().bos : dataset->info().eos;
}

fs::path tokenizer_directory(const TrainConfig& c) {
  if (!c.model.tokenizer.empty()) return c.model.tokenizer;
  const fs::path model = c.model.init_from.empty() ? c.model.config : c.model.init_from;
  std::error_code status;
  return fs::is_directory(model, status) ? model : model.parent_path();
}

TrainingData open_training_data(const TrainConfig& c, const data::Progress& progress) {
  const fs::path where = tokenizer_directory(c);
  HADAL_CHECK(tokenizer::Tokenizer::exists(where),
              "{}: has no tokenizer.json or tiktoken.model; name its directory by model.tokenizer", where.string());
  TrainingData out{tokenizer::Tokenizer::load(where), nullptr};
  const fs::path directory =
      c.data.directory.empty() ? build_from_text(c, out.tokenizer, progress) : fs::path(c.data.directory);
  out.dataset = std::make_unique<data::Dataset>(directory);
  out.dataset->check_tokenizer(data::tokenizer_identity(out.tokenizer), where.string());
  return out;
}

data::LoaderOptions loader_options(const TrainConfig& c, Index block) {
  data::LoaderOptions options;
  options.block = block;
  options.seed = c.seed;
  options.epochs = c.data.epochs;
  options.within_documents = c.data.within_documents;
  return options;
}

Batch to_batch(const data::Batch& from, bool within_documents) {
  Batch batch{from.ids.size(0), from.ids.size(1), {}, {}};
  const auto values = [&](const Tensor& t) {
    return std::vector<TokenId>(t->data<TokenId>(), t->data<TokenId>() + batch.tokens());
  };
  batch.ids = values(from.ids);
  batch.targets = values(from.targets);
  if (within_documents) batch.documents = values(from.documents);
  return batch;
}

}  // namespace hadal::train
