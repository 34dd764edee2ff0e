// A directory of weights in the published Hugging Face layout: `model.safetensors.index.json` with its shards; without
// an index, `model.safetensors` alone, or else the shards whose names count up to their total
// (`model-00001-of-00003.safetensors`, ...). Other *.safetensors beside them are not read. Symbolic links are followed,
// so a hub cache snapshot (links into ../../blobs) works as it is.
//
// Tensors may be presented under other names than the files give them, and parts of them under names of their own
// (rename, add_view): who looks for a name finds it, whatever way it lies in the files.
#pragma once

#include <cstdint>
#include <deque>
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
  bool has_prefix(const std::string& prefix) const;
  // An empty reference if absent. A weight's scale may lie in another shard than the weight (rule 31).
  ConstTensorRef find(const std::string& name) const;
  // The same, but an address only, as SafetensorsFile::in_place.
  ConstTensorRef find_in_place(const std::string& name) const;
  const TensorInfo* info(const std::string& name) const;
  const SafetensorsFile* shard_of(const std::string& name) const;
  std::uint64_t total_bytes() const;

  struct Located {
    const SafetensorsFile* shard;
    const TensorInfo* info;
  };
  // All tensors by shard and place in it.
  std::vector<Located> in_file_order() const;
  // Tensors of the shards that the index does not name: "NAME (FILE)".
  std::vector<std::string> not_in_index() const;

  // `name` must exist and `published` must not.
  void rename(const std::string& name, const std::string& published);
  // Presents the elements from `first` on of the tensor `of`, as many as `shape` has, as the tensor `name`.
  void add_view(const std::string& name, const std::string& of, Index first, const Shape& shape);
  void hide(const std::string& name) { where_.erase(name); }

  static bool exist(const std::filesystem::path& directory);
  // The shard file names a directory has, from the index, the single file or the numbered shards, without opening them;
  // throws if there are none, or not all.
  static std::vector<std::filesystem::path> shard_paths(const std::filesystem::path& directory);

 private:
  std::filesystem::path directory_;
  std::vector<SafetensorsFile> shards_;
  struct Place {
    std::size_t shard;
    const TensorInfo* info;
  };
  std::map<std::string, Place> where_;
  std::deque<TensorInfo> own_infos_;  // of renamed tensors and of views; their addresses last
};

}  // namespace hadal::io
