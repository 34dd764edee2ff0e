// JSON lines of results that an interrupted run leaves complete and the next one goes on from. What failed
// ({"id", "error"}) is tried again then: its line is taken out.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
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
  enum class Line { kResult, kFailed, kOther };
  static Line read_line(std::string_view line, std::string& key);

  std::string path_;
  std::FILE* file_ = nullptr;
  std::set<std::string> done_;
};

}  // namespace hadal::cli
