#include "hadal/data/digest_set.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "hadal/core/error.h"

namespace hadal::data {

DigestSet::DigestSet(std::filesystem::path directory, std::uint64_t places)
    : directory_(std::move(directory)), table_(make(places)) {}

DigestSet::~DigestSet() {
  unmap(table_);
}

DigestSet::Table DigestSet::make(std::uint64_t places) const {
  std::string name = (directory_ / "digests.XXXXXX").string();
  const int fd = ::mkostemp(name.data(), O_CLOEXEC);
  HADAL_CHECK(fd >= 0, "{}: cannot be written: {}", name, std::strerror(errno));
  ::unlink(name.c_str());
  const std::uint64_t bytes = places * sizeof(Key);
  // Room for all of it now: a page that finds none later would be a signal, not an error.
  const int reason = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  void* mapped = reason == 0 ? ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  const int why = reason != 0 ? reason : errno;
  ::close(fd);
  HADAL_CHECK(mapped != MAP_FAILED, "{}: has no room for {} bytes of document hashes: {}", directory_.string(), bytes,
              std::strerror(why));
  return {static_cast<Key*>(mapped), places};
}

void DigestSet::unmap(Table& table) {
  if (table.keys) ::munmap(table.keys, table.places * sizeof(Key));
  table = {};
}

bool DigestSet::insert(const Table& table, Key key) {
  for (std::uint64_t i = key.low;; ++i) {
    Key& place = table.keys[i & (table.places - 1)];
    if (place.low == key.low && place.high == key.high) return false;
    if (place.low != 0 || place.high != 0) continue;
    place = key;
    return true;
  }
}

bool DigestSet::insert(const io::Digest& digest) {
  if (2 * (size_ + 1) > table_.places) {
    Table larger = make(2 * table_.places);
    for (std::uint64_t i = 0; i < table_.places; ++i)
      if (const Key& key = table_.keys[i]; key.low != 0 || key.high != 0) insert(larger, key);
    unmap(table_);
    table_ = larger;
  }
  Key key;
  std::memcpy(&key, digest.data(), sizeof key);
  if (key.low == 0 && key.high == 0) key.low = 1;
  const bool added = insert(table_, key);
  size_ += added;
  return added;
}

}  // namespace hadal::data
