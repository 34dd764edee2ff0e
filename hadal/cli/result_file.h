// JSON lines of results that an interrupted run leaves complete and the next one goes on from.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace hadal::cli {

class ResultFile {
 public:
  // "-" or empty: stdout, nothing to go on from. Otherwise complete lines of an existing file are kept, a torn last
  // line is cut off, and new lines are appended.
  explicit ResultFile(std::string path);
  ~ResultFile();
  ResultFile(const ResultFile&) = delete;
  ResultFile& operator=(const ResultFile&) = delete;

  // Keys of the results that are there: id and choice as JSON.
  const std::set<std::string>& done() const { return done_; }
  static std::string key(const nlohmann::ordered_json& id, int choice);

  void append(const nlohmann::ordered_json& result);
  void finish();  // fsync

 private:
  void read_existing();
  static std::optional<std::string> key_of(std::string_view line);

  std::string path_;
  std::FILE* file_ = nullptr;
  std::set<std::string> done_;
};

}  // namespace hadal::cli
