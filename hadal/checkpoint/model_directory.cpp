#include "hadal/checkpoint/model_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/weight_index.h"

namespace hadal::checkpoint {
namespace {

constexpr const char* kJournal = ".hadal-journal";  // what the directory is being made from; gone when it is complete

std::uint64_t bytes_of(const io::SafetensorsWriter::Entry& e) {
  return static_cast<std::uint64_t>(e.shape.num_elements()) * dtype_bytes(e.dtype);
}

// "x.tmp4711": what a writer had not finished when it was killed.
bool is_unfinished(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  const std::size_t at = name.rfind(".tmp");
  return at != name.npos && at + 4 < name.size() && name.find_first_not_of("0123456789", at + 4) == name.npos;
}

void remove_unfinished(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (is_unfinished(entry.path())) found.push_back(entry.path());
  std::error_code status;
  for (const auto& file : found) std::filesystem::remove(file, status);
}

}  // namespace

ShardPlan plan_shards(const std::vector<std::vector<io::SafetensorsWriter::Entry>>& groups, std::uint64_t shard_bytes) {
  ShardPlan plan;
  std::uint64_t filled = 0;
  for (const auto& group : groups) {
    std::uint64_t size = 0;
    for (const auto& entry : group) size += bytes_of(entry);
    if (plan.shards.empty() || (shard_bytes > 0 && filled > 0 && filled + size > shard_bytes)) {
      plan.shards.emplace_back();
      filled = 0;
    }
    plan.shards.back().insert(plan.shards.back().end(), group.begin(), group.end());
    filled += size;
    plan.total_bytes += size;
  }
  return plan;
}

std::string shard_name(std::size_t index, std::size_t count) {
  return count == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

ModelDirectory::ModelDirectory(std::filesystem::path target, const std::string& fingerprint)
    : target_(std::move(target)) {
  while (!target_.has_filename() && target_.has_parent_path()) target_ = target_.parent_path();
  working_ = target_;
  working_ += ".partial";
  std::error_code status;
  if (std::filesystem::exists(target_, status)) {
    std::filesystem::remove(target_ / kJournal, status);  // of a run that was killed when all was done
    HADAL_CHECK(std::filesystem::is_directory(target_, status) && std::filesystem::is_empty(target_, status),
                "{}: exists already; name a directory that does not, or remove it", target_.string());
  }
  const auto journal = working_ / kJournal;
  if (std::filesystem::exists(journal, status)) {
    lock();
    HADAL_CHECK(io::read_text_file(journal) == fingerprint,
                "{}: was left by a run with another source or other options; remove it or name another destination",
                working_.string());
    remove_unfinished(working_);
    return;
  }
  // A run may have been killed before it had a journal.
  const bool empty = !std::filesystem::exists(working_, status) ||
                     std::all_of(std::filesystem::directory_iterator(working_), std::filesystem::directory_iterator(),
                                 [](const auto& entry) { return is_unfinished(entry.path()); });
  HADAL_CHECK(empty, "{}: exists and is not the work of an interrupted run; remove it or name another destination",
              working_.string());
  std::filesystem::create_directories(working_, status);
  HADAL_CHECK(!status, "{}: cannot be made: {}", working_.string(), status.message());
  lock();
  remove_unfinished(working_);
  io::write_text_file_atomically(journal, fingerprint);
}

ModelDirectory::Lock::~Lock() {
  if (descriptor >= 0) ::close(descriptor);
}

void ModelDirectory::lock() {
  lock_.descriptor = ::open(working_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  HADAL_CHECK(lock_.descriptor >= 0, "{}: cannot be opened: {}", working_.string(), std::strerror(errno));
  // Where a file system knows no locks there is none.
  HADAL_CHECK(::flock(lock_.descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK,
              "{}: another run is writing it; wait for that, or name another destination", working_.string());
}

void ModelDirectory::discard() noexcept {
  std::error_code status;
  std::filesystem::remove_all(working_, status);
}

bool ModelDirectory::has(const std::string& file) const {
  return std::filesystem::exists(working_ / file);
}

void ModelDirectory::write_text(const std::string& file, const std::string& text) const {
  io::write_text_file_atomically(working_ / file, text);
}

void ModelDirectory::copy(const std::filesystem::path& source) const {
  std::error_code status;
  const auto to = working_ / source.filename();
  std::filesystem::copy_file(source, to, std::filesystem::copy_options::overwrite_existing, status);
  HADAL_CHECK(!status, "{}: cannot be copied: {}", source.string(), status.message());
  std::filesystem::permissions(to, std::filesystem::perms::owner_write, std::filesystem::perm_options::add, status);
}

void ModelDirectory::finish(const ShardPlan& plan) {
  if (plan.shards.size() > 1) {
    std::map<std::string, std::string> weight_map;
    for (std::size_t s = 0; s < plan.shards.size(); ++s)
      for (const auto& entry : plan.shards[s]) weight_map[entry.name] = shard_name(s, plan.shards.size());
    io::write_weight_index(working_ / io::kIndexFile, weight_map, plan.total_bytes);
  }
  std::error_code status;
  std::filesystem::remove(target_, status);  // an empty directory that stood there
  std::filesystem::rename(working_, target_, status);
  HADAL_CHECK(!status, "{}: cannot be renamed to {}: {}", working_.string(), target_.string(), status.message());
  // Last, so that a run that is killed here leaves either what can go on or what is complete.
  std::filesystem::remove(target_ / kJournal, status);
}

std::uint64_t parse_size(const std::string& text, std::string_view option) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(end, text.data() + text.size());
  const std::map<std::string, double> units = {{"", 1},
                                               {"B", 1},
                                               {"K", 1e3},
                                               {"M", 1e6},
                                               {"G", 1e9},
                                               {"T", 1e12},
                                               {"KB", 1e3},
                                               {"MB", 1e6},
                                               {"GB", 1e9},
                                               {"TB", 1e12},
                                               {"KiB", 1024.0},
                                               {"MiB", 1048576.0},
                                               {"GiB", 1073741824.0},
                                               {"TiB", 1099511627776.0}};
  const auto factor = units.find(unit);
  HADAL_CHECK(error == std::errc() && factor != units.end() && number > 0 && number * factor->second < 1e18,
              "{}: \"{}\" is not understood; 5GB, 500MB and 2GiB are", option, text);
  return static_cast<std::uint64_t>(number * factor->second);
}

}  // namespace hadal::checkpoint
