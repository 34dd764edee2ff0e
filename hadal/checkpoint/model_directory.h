// Writing a model directory: complete under its name or not there at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/io/safetensors.h"

namespace hadal::checkpoint {

// Told bytes done of all; returning false cancels the work (Interrupted is thrown, what is finished stays for
// resuming).
using Progress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

// Tensors in the order they are written, cut into files.
struct ShardPlan {
  std::vector<std::vector<io::SafetensorsWriter::Entry>> shards;
  std::uint64_t total_bytes = 0;
};

// Groups (a weight and its scale) are not torn apart. `shard_bytes` 0: one file.
ShardPlan plan_shards(const std::vector<std::vector<io::SafetensorsWriter::Entry>>& groups, std::uint64_t shard_bytes);

// "model.safetensors", or "model-00001-of-00003.safetensors".
std::string shard_name(std::size_t index, std::size_t count);

// A directory under construction: DIR.partial, renamed to DIR by finish(). What an earlier, interrupted run left there
// is used again if its fingerprint is the same, otherwise refused; files that it had not finished are removed. One run
// at a time may work on it.
class ModelDirectory {
 public:
  // Throws if `target` exists and is not an empty directory.
  ModelDirectory(std::filesystem::path target, const std::string& fingerprint);
  ModelDirectory(const ModelDirectory&) = delete;
  ModelDirectory& operator=(const ModelDirectory&) = delete;

  const std::filesystem::path& working() const { return working_; }
  bool has(const std::string& file) const;  // finished by this or an earlier run
  void write_text(const std::string& file, const std::string& text) const;
  void copy(const std::filesystem::path& source) const;
  // Index (if there is more than one shard), then the rename.
  void finish(const ShardPlan& plan);
  // Removes everything: the work cannot go on, whoever tries again.
  void discard() noexcept;

 private:
  void lock();

  std::filesystem::path target_, working_;
  // Of the directory, held while the work goes on; also given up when a constructor throws.
  struct Lock {
    Lock() = default;
    ~Lock();
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    int descriptor = -1;
  };
  Lock lock_;
};

// "5GB" or "5G" (10^9), "500MB", "2GiB" or bytes.
std::uint64_t parse_size(const std::string& text, std::string_view option = "size");

}  // namespace hadal::checkpoint
