// API keys in an SQLite file. Of a key only its SHA-256 is kept: it is 256 random bits, so there is nothing to guess.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::serve {

// 0: no limit.
struct Quota {
  std::int64_t requests_per_minute = 0;
  std::int64_t tokens_per_minute = 0;  // of prompts and answers
  std::int64_t concurrent = 0;         // requests
};

struct Key {
  std::int64_t id = 0;
  std::string name;
  std::int64_t created = 0;  // Unix time
  bool revoked = false;
  Quota quota = {};
};

// $XDG_DATA_HOME/hadal/keys.db, else ~/.local/share/hadal/keys.db.
std::filesystem::path default_key_file();

// Thread-safe; several processes may use a file at a time. What is wrong with the file is an Error that names it.
class KeyStore {
 public:
  // Makes the file (mode 0600) if there is none and `create` says so; otherwise there are no keys then.
  explicit KeyStore(std::filesystem::path file, bool create);
  ~KeyStore();

  // The key itself, which is never seen again. Names of keys that are not revoked differ.
  std::string add(const std::string& name, const Quota& quota);
  // False if there is no such key.
  bool revoke(const std::string& name);
  std::vector<Key> list() const;
  bool any() const;  // that is not revoked
  // The key that is not revoked, by what a client sent.
  std::optional<Key> find(std::string_view key) const;

 private:
  struct Database;
  std::filesystem::path file_;
  mutable std::mutex mutex_;
  std::unique_ptr<Database> database_;
};

}  // namespace hadal::serve
