// From text to a data set (data/dataset.h): reads documents, drops those that were there before, divides them into
// training and validation, writes them as token ids. A stream: memory is a few MiB beside the largest document.
//
// What becomes of a document depends on its text, the options and the documents before it alone: not on threads, and,
// but for which copy of a text is kept, not on the others.
#pragma once

#include <functional>

#include "hadal/data/dataset.h"
#include "hadal/data/documents.h"
#include "hadal/data/sources.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::data {

// Text that is no UTF-8, or has a byte zero: an error, left out, or with U+FFFD for every byte that is wrong.
enum class InvalidText { kFail, kSkip, kReplace };

struct BuildOptions {
  std::vector<SourceSpec> sources;
  DocumentOptions documents;
  InvalidText invalid = InvalidText::kFail;
  bool eos = true;          // behind every document
  std::optional<bool> bos;  // before every document; none: as tokenizer_config.json says (add_bos_token)
  double fim_rate = 0.1;    // share of training documents in PSM form (data/fim.h)
  double validation = 0;    // share of documents, by their hash: the same whatever else is built
  std::uint64_t seed = 0;
  bool keep_duplicates = false;
  std::uint64_t shard_bytes = std::uint64_t{1} << 30;
  int threads = 0;         // 0: all cores
  bool overwrite = false;  // a data set that is there already
};

// Told bytes read of all; returning false cancels: Interrupted is thrown.
using Progress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

// Makes `directory`, whole or not at all; one that is there stays as it was until then. `model` names the tokenizer in
// errors.
DatasetInfo build_dataset(const tokenizer::Tokenizer& tokenizer, const std::string& model,
                          const std::filesystem::path& directory, const BuildOptions& options,
                          const Progress& progress = {});

}  // namespace hadal::data
