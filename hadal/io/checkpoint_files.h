// A directory of weights in the published Hugging Face layout: `model.safetensors.index.json` with its shards, or,
// without an index, `model.safetensors` alone (other *.safetensors beside it are not read). Symbolic links are
// followed, so a hub cache snapshot (links into ../../blobs) works as it is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "hadal/io/safetensors.h"

namespace hadal::io {

class CheckpointFiles {
 public:
  // Opens every shard and checks that the index and the shards agree: each tensor of the index is in the shard it
  // names, no name occurs twice. Violations are collected and thrown as one Error, a sentence (line) each.
  explicit CheckpointFiles(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  const std::vector<SafetensorsFile>& shards() const { return shards_; }
  // All names, sorted.
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return where_.contains(name); }
  // An empty reference if absent. A weight's scale may lie in another shard than the weight (rule 31).
  TensorRef find(const std::string& name) const;
  // The same, but an address only, as SafetensorsFile::in_place.
  TensorRef find_in_place(const std::string& name) const;
  const TensorInfo* info(const std::string& name) const;
  const SafetensorsFile* shard_of(const std::string& name) const;
  std::uint64_t total_bytes() const;

  // The shard file names a directory has, from the index or the single file, without opening them; throws if neither
  // is there.
  static std::vector<std::filesystem::path> shard_paths(const std::filesystem::path& directory);

 private:
  std::filesystem::path directory_;
  std::vector<SafetensorsFile> shards_;
  struct Place {
    std::size_t shard;
    const TensorInfo* info;
  };
  std::map<std::string, Place> where_;
};

}  // namespace hadal::io
