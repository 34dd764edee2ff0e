#include "hadal/io/checkpoint_identity.h"

#include <algorithm>

#include "hadal/io/checkpoint_files.h"
#include "hadal/io/mapped_file.h"

namespace hadal::io {
namespace {

constexpr std::size_t kSamples = 64, kSampleBytes = 4096;

void add_samples(Sha256& sum, std::span<const std::byte> bytes) {
  const std::size_t step = std::max(bytes.size() / kSamples, kSampleBytes);
  for (std::size_t at = 0; at < bytes.size(); at += step)
    sum.bytes(bytes.subspan(at, std::min(kSampleBytes, bytes.size() - at)));
}

}  // namespace

Digest file_digest(const std::filesystem::path& path) {
  const MappedFile file(path);
  return Sha256().bytes(file.bytes()).finish();
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
