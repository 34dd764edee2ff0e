// The data of a run: its tokenizer, its data set, and the batches that training is given.
#pragma once

#include <filesystem>
#include <memory>

#include "hadal/data/build.h"
#include "hadal/data/loader.h"
#include "hadal/tokenizer/tokenizer.h"
#include "hadal/train/objective.h"
#include "hadal/train/train_config.h"

namespace hadal::train {

struct TrainingData {
  tokenizer::Tokenizer tokenizer;
  std::unique_ptr<data::Dataset> dataset;

  bool has_validation() const;
  // What stands before the first token of a text, where every document begins so: BOS, else the end of the one before.
  std::optional<TokenId> before_text() const;
};

// Where the tokenizer of a run is.
std::filesystem::path tokenizer_directory(const TrainConfig& config);

// Makes the data set in the run's directory, if there is none yet, where text was given.
TrainingData open_training_data(const TrainConfig& config, const data::Progress& progress);

data::LoaderOptions loader_options(const TrainConfig& config, Index block);
// `within_documents`: with what attention and MTP are to stay within.
Batch to_batch(const data::Batch& batch, bool within_documents = false);

}  // namespace hadal::train
