// Between data sets and the files of Megatron-LM (data/megatron.h).
#pragma once

#include "hadal/data/build.h"

namespace hadal::data {

struct ImportOptions {
  std::vector<SourceSpec> sources;  // their inputs are prefixes of PREFIX.bin and PREFIX.idx
  double validation = 0;            // share of documents, by the hash of their text, as in a build
  bool keep_duplicates = false;
  std::uint64_t shard_bytes = std::uint64_t{1} << 30;
  bool overwrite = false;
};

// The documents as they are: nothing is added to their ids. Progress counts tokens.
DatasetInfo import_megatron(const tokenizer::Tokenizer& tokenizer, const std::string& model,
                            const std::filesystem::path& directory, const ImportOptions& options,
                            const Progress& progress = {});

// The documents of one source and split, in their order, to PREFIX.bin and PREFIX.idx. Returns their number.
std::uint64_t export_megatron(const Dataset& dataset, const std::string& source, Split split,
                              const std::filesystem::path& prefix, const Progress& progress = {});

}  // namespace hadal::data
