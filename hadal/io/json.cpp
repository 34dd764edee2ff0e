#include "hadal/io/json.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "hadal/core/error.h"
#include "hadal/io/utf8_text.h"

namespace hadal::io {

namespace {

// nlohmann's parser needs no stack, but printing and comparing a document recurse.
constexpr int kDeepest = 500;

void check_depth(std::string_view text, std::string_view where) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      HADAL_CHECK(++depth <= kDeepest, "{}: lists and objects are nested more than {} deep", where, kDeepest);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where) {
  text = utf8_text(text, where);
  check_depth(text, where);
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::exception& e) {
    // nlohmann's text is "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    const std::string_view what = e.what();
    const auto bracket = what.find("] ");
    fail("{}: not valid JSON: {}", where, bracket == std::string_view::npos ? what : what.substr(bracket + 2));
  }
}

Json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_text_file(path), path.string());
}

std::string read_text_file(const std::filesystem::path& path, std::size_t limit) {
  std::error_code status;
  HADAL_CHECK(!std::filesystem::is_directory(path, status), "{}: is a directory, a file was expected", path.string());
  std::ifstream file(path, std::ios::binary);
  HADAL_CHECK(file.is_open(), "{}: cannot be opened: {}", path.string(), std::strerror(errno));
  std::string text;
  std::string block(std::size_t{1} << 16, '\0');
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0) {
    text.append(block, 0, static_cast<std::size_t>(file.gcount()));
    HADAL_CHECK(text.size() <= limit, "{}: is larger than {} bytes", path.string(), limit);
  }
  HADAL_CHECK(!file.bad(), "{}: cannot be read: {}", path.string(), std::strerror(errno));
  return text;
}

void write_text_file_atomically(const std::filesystem::path& path, std::string_view text) {
  const std::string temporary = path.string() + ".tmp" + std::to_string(::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  HADAL_CHECK(fd >= 0, "{}: cannot be written: {}", path.string(), std::strerror(errno));
  std::size_t done = 0;
  bool good = true;
  while (good && done < text.size()) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    good = n > 0;
    if (good) done += static_cast<std::size_t>(n);
  }
  good = good && ::fsync(fd) == 0;
  const int reason = errno;
  ::close(fd);
  if (!good || ::rename(temporary.c_str(), path.c_str()) != 0) {
    const int why = good ? errno : reason;
    ::unlink(temporary.c_str());
    fail("{}: cannot be written: {}", path.string(), std::strerror(why));
  }
}

}  // namespace hadal::io
