#include "hadal/io/checkpoint_identity.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "hadal/core/error.h"
#include "hadal/io/checkpoint_files.h"
#include "hadal/io/mapped_file.h"

namespace hadal::io {
namespace {

constexpr std::size_t kSamples = 64, kSampleBytes = 4096;
constexpr std::size_t kBlockBytes = std::size_t{1} << 20;

void add_samples(Sha256& sum, std::span<const std::byte> bytes) {
  const std::size_t step = std::max(bytes.size() / kSamples, kSampleBytes);
  for (std::size_t at = 0; at < bytes.size(); at += step)
    sum.bytes(bytes.subspan(at, std::min(kSampleBytes, bytes.size() - at)));
}

}  // namespace

Digest file_digest(const std::filesystem::path& path) {
  std::error_code status;
  HADAL_CHECK(std::filesystem::is_regular_file(path, status), "{}: is not a regular file", path.string());
  std::ifstream file(path, std::ios::binary);
  HADAL_CHECK(file.is_open(), "{}: cannot be opened: {}", path.string(), std::strerror(errno));
  Sha256 sum;
  // Not mapped: all of it would count as this process's memory at once.
  std::vector<char> block(kBlockBytes);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0)
    sum.bytes(std::as_bytes(std::span(block).first(static_cast<std::size_t>(file.gcount()))));
  HADAL_CHECK(!file.bad(), "{}: cannot be read: {}", path.string(), std::strerror(errno));
  return sum.finish();
}

Digest checkpoint_identity(const std::filesystem::path& directory) {
  Sha256 sum;
  sum.digest(file_digest(directory / "config.json"));
  for (const std::filesystem::path& path : CheckpointFiles::shard_paths(directory)) {
    const MappedFile file(path);
    sum.text(path.filename().string()).number(file.bytes().size());
    sum.number(static_cast<std::uint64_t>(file.identity().changed_ns));
    add_samples(sum, file.bytes());
  }
  return sum.finish();
}

}  // namespace hadal::io
