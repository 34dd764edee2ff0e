// A data set: a directory of token shards with dataset.json, which says what they were made of.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hadal/data/shard.h"
#include "hadal/io/json.h"

namespace hadal::data {

enum class Split { kTrain, kValidation };
inline constexpr Split kSplits[] = {Split::kTrain, Split::kValidation};
const char* split_name(Split split);  // "train", "validation"

struct ShardEntry {
  std::string file;  // in the directory
  io::Digest digest{};
  std::uint64_t documents = 0, tokens = 0;
};

struct SplitInfo {
  std::uint64_t documents = 0, tokens = 0, text_bytes = 0;
  std::uint64_t fim_documents = 0;
  std::uint64_t longest = 0;  // tokens of a document
  std::vector<ShardEntry> shards;
};

struct SourceInfo {
  std::string name;
  // As they were given: a share of the training tokens, and how often it may be gone through.
  std::optional<double> weight, epochs;
  std::uint64_t files = 0;
  std::uint64_t documents_read = 0, duplicates = 0, empty = 0, invalid = 0;
  SplitInfo train, validation;

  const SplitInfo& split(Split s) const { return s == Split::kTrain ? train : validation; }
  SplitInfo& split(Split s) { return s == Split::kTrain ? train : validation; }
};

struct DatasetInfo {
  io::Digest tokenizer{};
  std::uint32_t vocab_size = 0;
  std::optional<TokenId> eos, bos;  // behind and before each document, if they were written
  io::Json options;                 // what it was built with
  std::vector<SourceInfo> sources;
};

io::Json to_json(const DatasetInfo& info);
// Throws Error, `where` in front, for what is no such document.
DatasetInfo parse_dataset_info(std::string_view text, const std::string& where);

class Dataset {
 public:
  // Opens every shard and compares it with what dataset.json says. Throws Error with a sentence for what is missing,
  // damaged or from elsewhere.
  explicit Dataset(const std::filesystem::path& directory);
  static bool exists(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  const DatasetInfo& info() const { return info_; }
  const io::Digest& digest() const { return digest_; }  // of all shards: the same data, the same digest
  const std::vector<std::unique_ptr<Shard>>& shards(std::size_t source, Split split) const {
    return shards_[source][static_cast<std::size_t>(split)];
  }
  // Throws Error that names both if its ids are not those of this tokenizer (data/tokenizer_identity.h).
  void check_tokenizer(const io::Digest& identity, const std::string& model) const;

 private:
  std::filesystem::path directory_;
  DatasetInfo info_;
  io::Digest digest_{};
  std::vector<std::vector<std::vector<std::unique_ptr<Shard>>>> shards_;  // [source][split]
};

}  // namespace hadal::data
