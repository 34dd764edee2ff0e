#include "hadal/io/unfinished_files.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::io {
namespace {

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

void remove_unfinished(const std::filesystem::path& path) {
  const std::string begin = path.filename().string() + ".tmp";
  const std::filesystem::path directory = path.has_parent_path() ? path.parent_path() : ".";
  std::vector<std::filesystem::path> unfinished;
  std::error_code status;
  for (const auto& entry : std::filesystem::directory_iterator(directory, status)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(begin) && is_number(std::string_view(name).substr(begin.size())))
      unfinished.push_back(entry.path());
  }
  for (const auto& file : unfinished) std::filesystem::remove(file, status);
}

}  // namespace hadal::io
