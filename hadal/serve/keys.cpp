#include "hadal/serve/keys.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sqlite3.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "hadal/core/error.h"

namespace hadal::serve {
namespace {

constexpr const char* kSchema =
    "CREATE TABLE IF NOT EXISTS keys (id INTEGER PRIMARY KEY, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, created "
    "INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0, requests_per_minute INTEGER NOT NULL, tokens_per_minute "
    "INTEGER NOT NULL, concurrent INTEGER NOT NULL);"
    "CREATE UNIQUE INDEX IF NOT EXISTS live_names ON keys (name) WHERE revoked = 0;";
constexpr const char* kColumns = "id, name, created, revoked, requests_per_minute, tokens_per_minute, concurrent";
constexpr std::string_view kPrefix = "hd-";

using Hash = std::array<unsigned char, 32>;

Hash sha256(std::string_view text) {
  Hash out{};
  unsigned int size = 0;
  HADAL_CHECK(EVP_Digest(text.data(), text.size(), out.data(), &size, EVP_sha256(), nullptr) == 1,
              "keys: OpenSSL has no SHA-256");
  return out;
}

std::string new_key() {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::array<unsigned char, 43> bytes{};  // of each, six bits are used
  HADAL_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1, "keys: OpenSSL has no random numbers");
  std::string out(kPrefix);
  for (const unsigned char b : bytes) out += kDigits[b % 64];
  return out;
}

}  // namespace

std::filesystem::path default_key_file() {
  const char* data = std::getenv("XDG_DATA_HOME");
  if (data && *data) return std::filesystem::path(data) / "hadal/keys.db";
  const char* home = std::getenv("HOME");
  HADAL_CHECK(home && *home, "keys: neither XDG_DATA_HOME nor HOME is set; name a file with --keys");
  return std::filesystem::path(home) / ".local/share/hadal/keys.db";
}

struct KeyStore::Database {
  sqlite3* db = nullptr;
  std::string name;

  Database(const std::filesystem::path& file) : name(file.string()) {
    if (sqlite3_open_v2(name.c_str(), &db, SQLITE_OPEN_READWRITE, nullptr) != SQLITE_OK) {
      const std::string why = sqlite3_errmsg(db);
      sqlite3_close(db);
      db = nullptr;
      fail("{}: cannot be opened: {}", name, why);
    }
    sqlite3_busy_timeout(db, 5000);
    try {
      run(kSchema);
    } catch (...) {
      sqlite3_close(db);
      throw;
    }
  }
  ~Database() { sqlite3_close(db); }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void check(int code) const {
    HADAL_CHECK(code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW, "{}: {}", name, sqlite3_errmsg(db));
  }
  void run(const char* sql) const { check(sqlite3_exec(db, sql, nullptr, nullptr, nullptr)); }
};

namespace {

class Statement {
 public:
  Statement(sqlite3* db, const std::string& file, const std::string& sql) : db_(db), file_(file) {
    check(sqlite3_prepare_v2(db, sql.c_str(), -1, &statement_, nullptr));
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  void bind(int at, std::int64_t value) { check(sqlite3_bind_int64(statement_, at, value)); }
  void bind(int at, const std::string& text) {
    check(sqlite3_bind_text(statement_, at, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT));
  }
  void bind(int at, const Hash& hash) {
    check(sqlite3_bind_blob(statement_, at, hash.data(), static_cast<int>(hash.size()), SQLITE_TRANSIENT));
  }
  // Whether there is a row.
  bool step() {
    code_ = sqlite3_step(statement_);
    check(code_);
    return code_ == SQLITE_ROW;
  }
  Key key() const {
    const auto number = [&](int at) { return static_cast<std::int64_t>(sqlite3_column_int64(statement_, at)); };
    const auto* name = reinterpret_cast<const char*>(sqlite3_column_text(statement_, 1));
    return {.id = number(0),
            .name = name ? name : "",
            .created = number(2),
            .revoked = number(3) != 0,
            .quota = {number(4), number(5), number(6)}};
  }

 private:
  void check(int code) const {
    HADAL_CHECK(code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW, "{}: {}", file_, sqlite3_errmsg(db_));
  }
  sqlite3* db_;
  const std::string& file_;
  sqlite3_stmt* statement_ = nullptr;
  int code_ = SQLITE_OK;
};

void make_file(const std::filesystem::path& file) {
  std::error_code status;
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), status);
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  HADAL_CHECK(fd >= 0, "{}: cannot be made: {}", file.string(), std::strerror(errno));
  ::close(fd);
}

}  // namespace

KeyStore::KeyStore(std::filesystem::path file, bool create) : file_(std::move(file)) {
  std::error_code status;
  if (!std::filesystem::exists(file_, status)) {
    if (!create) return;
    make_file(file_);
  }
  database_ = std::make_unique<Database>(file_);
}
KeyStore::~KeyStore() = default;

std::string KeyStore::add(const std::string& name, const Quota& quota) {
  HADAL_CHECK(!name.empty() && name.size() <= 200, "keys: the name \"{}\" is empty or longer than 200 bytes", name);
  for (const Key& key : list())
    HADAL_CHECK(key.revoked || key.name != name, "keys: there is a key {} already; revoke it or choose another name",
                name);
  const std::lock_guard lock(mutex_);
  const std::string key = new_key();
  Statement insert(database_->db, database_->name,
                   "INSERT INTO keys (name, hash, created, requests_per_minute, tokens_per_minute, concurrent) VALUES "
                   "(?, ?, ?, ?, ?, ?)");
  insert.bind(1, name);
  insert.bind(2, sha256(key));
  insert.bind(3, static_cast<std::int64_t>(std::time(nullptr)));
  insert.bind(4, quota.requests_per_minute);
  insert.bind(5, quota.tokens_per_minute);
  insert.bind(6, quota.concurrent);
  insert.step();
  return key;
}

bool KeyStore::revoke(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (!database_) return false;
  Statement update(database_->db, database_->name, "UPDATE keys SET revoked = 1 WHERE name = ? AND revoked = 0");
  update.bind(1, name);
  update.step();
  return sqlite3_changes(database_->db) > 0;
}

std::vector<Key> KeyStore::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<Key> out;
  if (!database_) return out;
  Statement select(database_->db, database_->name, std::string("SELECT ") + kColumns + " FROM keys ORDER BY id");
  while (select.step()) out.push_back(select.key());
  return out;
}

bool KeyStore::any() const {
  for (const Key& key : list())
    if (!key.revoked) return true;
  return false;
}

std::optional<Key> KeyStore::find(std::string_view key) const {
  const std::lock_guard lock(mutex_);
  if (!database_ || !key.starts_with(kPrefix) || key.size() > 100) return std::nullopt;
  Statement select(database_->db, database_->name,
                   std::string("SELECT ") + kColumns + " FROM keys WHERE hash = ? AND revoked = 0");
  select.bind(1, sha256(key));
  return select.step() ? std::optional(select.key()) : std::nullopt;
}

}  // namespace hadal::serve
