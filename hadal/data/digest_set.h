// A set of digests that lies in a file without a name: memory is the system's to give and to take back, whatever the
// number. Of each, 128 bits decide.
#pragma once

#include <cstdint>
#include <filesystem>

#include "hadal/io/digest.h"

namespace hadal::data {

class DigestSet {
 public:
  // `directory`: where there is room, 32 bytes a digest or more. Throws Error, as insert does, when it is full.
  explicit DigestSet(std::filesystem::path directory, std::uint64_t places = std::uint64_t{1} << 16);
  ~DigestSet();
  DigestSet(const DigestSet&) = delete;
  DigestSet& operator=(const DigestSet&) = delete;

  // Whether it was not there yet.
  bool insert(const io::Digest& digest);
  std::uint64_t size() const { return size_; }

 private:
  struct Key {
    std::uint64_t low = 0, high = 0;  // both zero: the place is free
  };
  struct Table {
    Key* keys = nullptr;
    std::uint64_t places = 0;  // a power of two
  };

  Table make(std::uint64_t places) const;
  static void unmap(Table& table);
  static bool insert(const Table& table, Key key);

  std::filesystem::path directory_;
  Table table_;
  std::uint64_t size_ = 0;
};

}  // namespace hadal::data
