// A directory of records, each a file under the name of a digest, that together take no more than so many bytes: the
// one used longest ago goes first. Whatever happens while one is written, kill -9 and a full disk among it, a record is
// there as it was written or not at all: a temporary name, a checksum, a rename. Only the owner can read them.
//
//   DIR/lock                           held by the process that uses the directory
//   DIR/<16 digits>/<64 digits>.record  by what the records belong to; all of DIR counts for the size
//
// A file, integers little-endian: "HADALREC", u32 version, u32 0, owner [32], name [32], u64 size, SHA-256 [32] of the
// bytes before it and the record, the record.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hadal/io/digest.h"
#include "hadal/io/file_lock.h"

namespace hadal::io {

inline constexpr std::size_t kRecordHeader = 120;

// The file's bytes of a record, and the record in such bytes; parse throws Error that says what is wrong with them.
std::vector<std::byte> record_header(const Digest& owner, const Digest& name, std::span<const std::byte> record);
std::span<const std::byte> parse_record(std::span<const std::byte> file, const Digest& owner, const Digest& name);

class RecordFiles {
 public:
  // `owner`: what the records belong to and are of no use without; those of others are left alone until there is no
  // room. Makes the directory. Throws Error if it cannot be written, or another process uses it.
  RecordFiles(const std::filesystem::path& directory, std::uint64_t most_bytes, const Digest& owner);
  ~RecordFiles();
  RecordFiles(const RecordFiles&) = delete;
  RecordFiles& operator=(const RecordFiles&) = delete;

  // From any thread. A record that cannot be read as it was written is removed, with a warning, and is not there.
  bool contains(const Digest& name) const;
  std::optional<std::vector<std::byte>> read(const Digest& name);
  // Of records that belong behind one another: those in front are used later, so that they go later.
  void use(std::span<const Digest> names);
  // Throws Error if it cannot be written; one that is larger than everything may be is not.
  void write(const Digest& name, std::span<const std::byte> record);

  std::uint64_t bytes() const;  // of all files
  std::size_t size() const;     // records of this owner

 private:
  struct File {
    std::filesystem::path path;
    std::uint64_t bytes = 0;
    std::optional<Digest> name;  // of those of this owner
  };

  std::filesystem::path path_of(const Digest& name) const;
  void find_files();
  void add(File file);
  void forget(std::uint64_t when);
  void make_room(std::uint64_t bytes);
  void use_locked(const Digest& name);

  std::filesystem::path directory_, own_;
  std::uint64_t most_bytes_;
  Digest owner_;
  FileLock lock_;
  mutable std::mutex mutex_;
  std::uint64_t clock_ = 0, bytes_ = 0;
  std::map<std::uint64_t, File> by_use_;
  std::map<Digest, std::uint64_t> when_;
};

}  // namespace hadal::io
