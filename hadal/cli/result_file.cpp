#include "hadal/cli/result_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"
#include "hadal/io/json.h"

namespace hadal::cli {

using Json = nlohmann::ordered_json;

ResultFile::ResultFile(std::string path) : path_(path == "-" ? "" : std::move(path)) {
  if (path_.empty()) return;
  if (std::filesystem::is_regular_file(path_)) read_existing();
  file_ = std::fopen(path_.c_str(), "ab");
  HADAL_CHECK(file_, "{}: cannot be written: {}", path_, std::strerror(errno));
}

ResultFile::~ResultFile() {
  if (file_) std::fclose(file_);
}

std::string ResultFile::key(const Json& id, int choice) {
  return id.dump() + "#" + std::to_string(choice);
}

ResultFile::Line ResultFile::read_line(std::string_view line, std::string& key_out) {
  try {
    const Json json = io::parse_json(line, "line");
    if (!json.is_object() || !json.contains("id")) return Line::kOther;
    if (!json.contains("tokens")) return json.contains("error") ? Line::kFailed : Line::kOther;
    const Json choice = json.value("choice", Json(0));
    if (!choice.is_number_integer()) return Line::kOther;
    key_out = key(json["id"], choice.get<int>());
    return Line::kResult;
  } catch (const Error&) {
    return Line::kOther;
  }
}

void ResultFile::read_existing() {
  const std::string text = io::read_text_file(path_);
  std::string kept;
  bool failed = false;
  std::size_t at = 0;
  for (std::size_t end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
    std::string key;
    const Line line = read_line(std::string_view(text).substr(at, end - at), key);
    HADAL_CHECK(line != Line::kOther, "{}: holds something else than results of this command; name another --output",
                path_);
    failed = failed || line == Line::kFailed;
    if (line == Line::kFailed) continue;
    done_.insert(key);
    kept.append(text, at, end + 1 - at);
  }
  if (failed)
    io::write_text_file_atomically(path_, kept);
  else if (at < text.size())
    std::filesystem::resize_file(path_, at);
}

void ResultFile::append(const Json& result) {
  const std::string line = result.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (!file_) {
    print(line);
    flush_output();
    return;
  }
  if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fflush(file_) != 0)
    fail("{}: cannot be written: {}; the lines before are complete, run again to go on", path_, std::strerror(errno));
}

void ResultFile::finish() {
  if (file_ && ::fsync(::fileno(file_)) != 0 && errno != EINVAL)
    fail("{}: cannot be written: {}", path_, std::strerror(errno));
}

}  // namespace hadal::cli
