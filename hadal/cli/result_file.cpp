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
  if (std::filesystem::exists(path_)) read_existing();
  file_ = std::fopen(path_.c_str(), "ab");
  HADAL_CHECK(file_, "{}: cannot be written: {}", path_, std::strerror(errno));
}

ResultFile::~ResultFile() {
  if (file_) std::fclose(file_);
}

std::string ResultFile::key(const Json& id, int choice) {
  return id.dump() + "#" + std::to_string(choice);
}

// Empty if the line is not a result.
std::optional<std::string> ResultFile::key_of(std::string_view line) {
  try {
    const Json json = io::parse_json(line, "line");
    if (!json.is_object() || !json.contains("id") || !json.contains("tokens")) return std::nullopt;
    const Json choice = json.value("choice", Json(0));
    if (!choice.is_number_integer()) return std::nullopt;
    return key(json["id"], choice.get<int>());
  } catch (const Error&) {
    return std::nullopt;
  }
}

void ResultFile::read_existing() {
  const std::string text = io::read_text_file(path_);
  std::size_t at = 0;
  for (std::size_t end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
    const std::optional<std::string> result = key_of(std::string_view(text).substr(at, end - at));
    HADAL_CHECK(result, "{}: holds something else than results of this command; name another --output", path_);
    done_.insert(*result);
  }
  if (at < text.size()) std::filesystem::resize_file(path_, at);
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
