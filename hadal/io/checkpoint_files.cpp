#include "hadal/io/checkpoint_files.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>
#include <tuple>

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

// "model-00002-of-00005.safetensors": the second of five that begin with "model".
struct ShardName {
  std::string stem;
  Index number, total;
};

std::optional<ShardName> parse_shard_name(const std::string& name) {
  constexpr std::string_view kEnd = ".safetensors", kOf = "-of-";
  constexpr std::size_t kMostDigits = 6;
  if (!name.ends_with(kEnd)) return std::nullopt;
  const std::string base = name.substr(0, name.size() - kEnd.size());
  const auto digits_before = [&](std::size_t end) {
    std::size_t begin = end;
    while (begin > 0 && std::isdigit(static_cast<unsigned char>(base[begin - 1]))) --begin;
    return begin;
  };
  const std::size_t total = digits_before(base.size());
  if (total < kOf.size() || base.substr(total - kOf.size(), kOf.size()) != kOf) return std::nullopt;
  const std::size_t of = total - kOf.size(), number = digits_before(of);
  const auto usable = [](std::size_t digits) { return digits > 0 && digits <= kMostDigits; };
  if (!usable(base.size() - total) || !usable(of - number) || number == 0 || base[number - 1] != '-')
    return std::nullopt;
  return ShardName{base.substr(0, number - 1), std::stoll(base.substr(number, of - number)),
                   std::stoll(base.substr(total))};
}

// The files of one set of numbered shards; empty if there are no such files.
std::vector<std::filesystem::path> numbered_shards(const std::filesystem::path& directory) {
  std::map<std::pair<std::string, Index>, std::map<Index, std::string>> sets;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (const auto shard = parse_shard_name(name)) sets[{shard->stem, shard->total}][shard->number] = name;
  }
  if (sets.empty()) return {};
  HADAL_CHECK(sets.size() == 1, "{}: has no {}, and its shards belong to {} different sets", directory.string(),
              kIndexFile, sets.size());
  const auto& [set, shards] = *sets.begin();
  std::vector<std::filesystem::path> paths;
  for (Index i = 1; i <= set.second; ++i) {
    const auto shard = shards.find(i);
    HADAL_CHECK(shard != shards.end(), "{}: has {} of the {} shards {}-*, the one with number {} is missing",
                directory.string(), shards.size(), set.second, set.first, i);
    paths.push_back(directory / shard->second);
  }
  return paths;
}

// What else a directory without safetensors may be.
std::string hint(const std::filesystem::path& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth"))
      return "; " + name + " is a PyTorch file, save the model as safetensors";
    if (name.ends_with(".gguf")) return "; " + name + " is a GGUF file, safetensors are read";
    if (name.ends_with(".safetensors")) return "; a single file is called so, rename " + name;
  }
  return "";
}

}  // namespace

bool CheckpointFiles::exist(const std::filesystem::path& directory) {
  std::error_code status;
  return std::filesystem::is_directory(directory, status) &&
         (std::filesystem::exists(directory / kIndexFile) || std::filesystem::exists(directory / kSingleFile) ||
          !numbered_shards(directory).empty());
}

std::vector<std::filesystem::path> CheckpointFiles::shard_paths(const std::filesystem::path& directory) {
  check_directory(directory);
  const auto index = directory / kIndexFile;
  if (!std::filesystem::exists(index)) {
    if (std::filesystem::exists(directory / kSingleFile)) return {directory / kSingleFile};
    const auto shards = numbered_shards(directory);
    HADAL_CHECK(!shards.empty(), "{}: has neither {} nor {}{}", directory.string(), kIndexFile, kSingleFile,
                hint(directory));
    return shards;
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
    for (std::size_t i = 0; i < shards_.size(); ++i)
      for (const TensorInfo& info : shards_[i].tensors())
        if (const auto [twice, added] = where_.try_emplace(info.name, Place{i, &info}); !added)
          faults.push_back(fmt::format("{}: has tensor {}, which {} has too", shards_[i].path().string(), info.name,
                                       shards_[twice->second.shard].path().filename().string()));
    if (!faults.empty()) fail_with(faults);
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

bool CheckpointFiles::has_prefix(const std::string& prefix) const {
  const auto it = where_.lower_bound(prefix);
  return it != where_.end() && it->first.starts_with(prefix);
}

std::vector<CheckpointFiles::Located> CheckpointFiles::in_file_order() const {
  std::vector<Located> all;
  for (const auto& [name, place] : where_) all.push_back({&shards_[place.shard], place.info});
  // Shards lie in one vector, so their addresses are in order.
  std::stable_sort(all.begin(), all.end(), [](const Located& a, const Located& b) {
    return std::tuple(a.shard, a.info->begin, a.info->end) < std::tuple(b.shard, b.info->begin, b.info->end);
  });
  return all;
}

std::vector<std::string> CheckpointFiles::not_in_index() const {
  std::vector<std::string> names;
  const auto index = directory_ / kIndexFile;
  if (!std::filesystem::exists(index)) return names;
  const auto listed = read_weight_index(index);
  for (const SafetensorsFile& shard : shards_)
    for (const TensorInfo& info : shard.tensors()) {
      const std::string file = shard.path().filename().string();
      const auto it = listed.find(info.name);
      if (it == listed.end() || it->second != file) names.push_back(fmt::format("{} ({})", info.name, file));
    }
  return names;
}

void CheckpointFiles::rename(const std::string& name, const std::string& published) {
  const Place from = where_.at(name);
  HADAL_CHECK(!where_.contains(published), "{}: has both {} and {}", directory_.string(), name, published);
  TensorInfo& info = own_infos_.emplace_back(*from.info);
  info.name = published;
  where_.erase(name);
  where_[published] = {from.shard, &info};
}

void CheckpointFiles::add_view(const std::string& name, const std::string& of, Index first, const Shape& shape) {
  const Place whole = where_.at(of);
  HADAL_CHECK(!where_.contains(name), "{}: has both {} and {}", directory_.string(), of, name);
  const std::uint64_t element = dtype_bytes(whole.info->dtype);
  const std::uint64_t begin = whole.info->begin + static_cast<std::uint64_t>(first) * element;
  const std::uint64_t end = begin + static_cast<std::uint64_t>(shape.num_elements()) * element;
  HADAL_CHECK(end <= whole.info->end, "{}: {} does not lie in {}", directory_.string(), name, of);
  own_infos_.push_back({name, whole.info->dtype, shape, begin, end});
  where_[name] = {whole.shard, &own_infos_.back()};
}

ConstTensorRef CheckpointFiles::find(const std::string& name) const {
  const auto it = where_.find(name);
  return it == where_.end() ? ConstTensorRef() : shards_[it->second.shard].tensor(*it->second.info);
}

ConstTensorRef CheckpointFiles::find_in_place(const std::string& name) const {
  const auto it = where_.find(name);
  return it == where_.end() ? ConstTensorRef() : shards_[it->second.shard].in_place(*it->second.info);
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
