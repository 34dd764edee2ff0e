#include "hadal/data/dataset_writer.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace hadal::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDatasetFile = "dataset.json";
constexpr const char* kLock = "lock";
constexpr const char* kShardName = ".tokens";
// Bounds the memory of an open shard's index.
constexpr std::uint64_t kMostDocuments = std::uint64_t{1} << 22;

// Whether nothing but a data set, or what a run has left of one, would be lost with the directory.
bool only_ours(const fs::path& directory) {
  std::error_code status;
  for (const fs::directory_entry& e : fs::directory_iterator(directory, status)) {
    const std::string name = e.path().filename().string();
    const bool ours = name == kDatasetFile || name == kLock || name.starts_with(std::string(kDatasetFile) + ".tmp") ||
                      name.starts_with("digests.") || name.find(kShardName) != name.npos;
    if (!ours || !e.is_regular_file(status)) return false;
  }
  return !status;
}

bool nothing_in(const fs::path& directory) {
  std::error_code status;
  return fs::is_directory(directory, status) && fs::is_empty(directory, status) && !status;
}

}  // namespace

DatasetWriter::DatasetWriter(fs::path directory, DatasetInfo info, std::uint64_t shard_bytes, bool overwrite)
    : directory_(std::move(directory)), shard_bytes_(shard_bytes), overwrite_(overwrite), info_(std::move(info)) {
  if (!directory_.has_filename()) directory_ = directory_.parent_path();  // a name that ends with '/'
  working_ = directory_.string() + ".partial";
  std::error_code status;
  if (fs::exists(fs::symlink_status(directory_, status)) && !nothing_in(directory_)) {
    const bool replaceable = Dataset::exists(directory_) && only_ours(directory_);
    HADAL_CHECK(replaceable, "{}: exists and is no data set, or holds other files too; name another directory",
                directory_.string());
    HADAL_CHECK(overwrite_, "{}: exists already; --overwrite replaces it", directory_.string());
  }
  fs::create_directories(working_, status);
  HADAL_CHECK(!status, "{}: cannot be made: {}", working_.string(), status.message());
  HADAL_CHECK(only_ours(working_), "{}: holds other files than an interrupted run's; remove it", working_.string());
  lock_ = io::FileLock(working_ / kLock, fmt::format("{}: another run works on it", working_.string()));
  owned_ = true;
  for (const fs::directory_entry& e : fs::directory_iterator(working_, status))
    if (e.path().filename() != kLock) fs::remove(e.path(), status);
}

DatasetWriter::~DatasetWriter() {
  for (auto& writer : open_) writer.reset();
  std::error_code ignored;
  if (owned_) fs::remove_all(working_, ignored);
}

SourceInfo& DatasetWriter::begin_source(const std::string& name) {
  info_.sources.emplace_back().name = name;
  return info_.sources.back();
}

void DatasetWriter::add(Split split, std::span<const TokenId> document, std::uint64_t text_bytes) {
  auto& writer = open_[static_cast<std::size_t>(split)];
  SplitInfo& s = info_.sources.back().split(split);
  if (!writer) {
    const std::string name =
        fmt::format("{}-{}-{:05}{}", info_.sources.back().name, split_name(split), s.shards.size(), kShardName);
    writer = std::make_unique<ShardWriter>(working_ / name, info_.vocab_size, info_.tokenizer);
  }
  writer->add(document, text_bytes);
  s.documents += 1;
  s.tokens += document.size();
  s.text_bytes += text_bytes;
  s.longest = std::max<std::uint64_t>(s.longest, document.size());
  if (writer->bytes() >= shard_bytes_ || writer->header().documents >= kMostDocuments) close(split);
}

void DatasetWriter::close(Split split) {
  auto& writer = open_[static_cast<std::size_t>(split)];
  if (!writer) return;
  const io::Digest digest = writer->finish();
  info_.sources.back().split(split).shards.push_back(
      {writer->path().filename().string(), digest, writer->header().documents, writer->header().tokens});
  writer.reset();
}

void DatasetWriter::end_source() {
  for (const Split split : kSplits) close(split);
}

DatasetInfo DatasetWriter::finish() {
  io::write_text_file_atomically(working_ / kDatasetFile, to_json(info_).dump(2) + "\n");
  // An empty directory is replaced, too; one that holds something changes its name with the new one in one step, and is
  // removed as what is left of the work.
  if (::rename(working_.c_str(), directory_.c_str()) == 0) {
    owned_ = false;
  } else {
    const bool exchanged = (errno == ENOTEMPTY || errno == EEXIST) && overwrite_ &&
                           ::renameat2(AT_FDCWD, working_.c_str(), AT_FDCWD, directory_.c_str(), RENAME_EXCHANGE) == 0;
    HADAL_CHECK(exchanged, "{}: cannot be made: {}", directory_.string(), std::strerror(errno));
  }
  std::error_code status;
  fs::remove(directory_ / kLock, status);
  return info_;
}

}  // namespace hadal::data
