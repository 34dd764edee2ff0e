#include "hadal/io/checkpoint_files.h"

#include <algorithm>
#include <set>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/weight_index.h"

namespace hadal::io {
namespace {

constexpr std::size_t kMostSentences = 20;
constexpr const char* kSingleFile = "model.safetensors";

[[noreturn]] void fail_with(const std::vector<std::string>& faults) {
  std::string text;
  for (std::size_t i = 0; i < std::min(faults.size(), kMostSentences); ++i) text += (i ? "\n" : "") + faults[i];
  if (faults.size() > kMostSentences) text += fmt::format("\nand {} more of the kind", faults.size() - kMostSentences);
  throw Error(text);
}

void check_directory(const std::filesystem::path& directory) {
  std::error_code status;
  HADAL_CHECK(std::filesystem::exists(directory, status), "{}: there is no such directory", directory.string());
  HADAL_CHECK(std::filesystem::is_directory(directory, status), "{}: is not a directory; give the model's directory",
              directory.string());
}

}  // namespace

std::vector<std::filesystem::path> CheckpointFiles::shard_paths(const std::filesystem::path& directory) {
  check_directory(directory);
  const auto index = directory / kIndexFile;
  if (!std::filesystem::exists(index)) {
    HADAL_CHECK(std::filesystem::exists(directory / kSingleFile), "{}: has neither {} nor {}", directory.string(),
                kIndexFile, kSingleFile);
    return {directory / kSingleFile};
  }
  std::set<std::string> names;
  for (const auto& [tensor, shard] : read_weight_index(index)) names.insert(shard);
  std::vector<std::filesystem::path> paths;
  for (const std::string& name : names) paths.push_back(directory / name);
  return paths;
}

CheckpointFiles::CheckpointFiles(const std::filesystem::path& directory) : directory_(directory) {
  const auto paths = shard_paths(directory);
  std::vector<std::string> faults;
  for (const auto& path : paths) {
    try {
      shards_.emplace_back(path);
    } catch (const Error& e) {
      faults.push_back(e.what());
    }
  }
  if (!faults.empty()) fail_with(faults);
  const auto index = directory / kIndexFile;
  if (!std::filesystem::exists(index)) {
    for (const TensorInfo& info : shards_[0].tensors()) where_[info.name] = {0, &info};
    return;
  }
  std::map<std::string, std::size_t> shard_of_file;
  for (std::size_t i = 0; i < paths.size(); ++i) shard_of_file[paths[i].filename().string()] = i;
  for (const auto& [tensor, file] : read_weight_index(index)) {
    const std::size_t shard = shard_of_file.at(file);
    const TensorInfo* info = shards_[shard].find(tensor);
    if (!info)
      faults.push_back(
          fmt::format("{}: has no tensor {}, but {} says so", shards_[shard].path().string(), tensor, kIndexFile));
    else
      where_[tensor] = {shard, info};
  }
  if (!faults.empty()) fail_with(faults);
}

std::vector<std::string> CheckpointFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : where_) names.push_back(name);
  return names;
}

TensorRef CheckpointFiles::find(const std::string& name) const {
  const auto it = where_.find(name);
  return it == where_.end() ? TensorRef() : shards_[it->second.shard].tensor(*it->second.info);
}

TensorRef CheckpointFiles::find_in_place(const std::string& name) const {
  const auto it = where_.find(name);
  return it == where_.end() ? TensorRef() : shards_[it->second.shard].in_place(*it->second.info);
}

const TensorInfo* CheckpointFiles::info(const std::string& name) const {
  const auto it = where_.find(name);
  return it == where_.end() ? nullptr : it->second.info;
}

const SafetensorsFile* CheckpointFiles::shard_of(const std::string& name) const {
  const auto it = where_.find(name);
  return it == where_.end() ? nullptr : &shards_[it->second.shard];
}

std::uint64_t CheckpointFiles::total_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [name, place] : where_) total += place.info->end - place.info->begin;
  return total;
}

}  // namespace hadal::io
