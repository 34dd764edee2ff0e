#include "hadal/io/free_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

namespace hadal::io {
namespace {

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

// The number of "name 123" or "name: 123 kB"; what follows it is ignored.
std::optional<std::uint64_t> field(const std::filesystem::path& file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string key;
    std::uint64_t value = 0;
    if (words >> key >> value && key == name) return value;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> number(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::uint64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;  // absent, or "max"
}

// The group and those above it, up to where the hierarchy is mounted: the tightest counts.
std::uint64_t left_in(const std::filesystem::path& mount, std::filesystem::path group, const char* limit_file,
                      const char* used_field) {
  std::uint64_t left = kNoLimit;
  for (group = group.relative_path();; group = group.parent_path()) {
    const auto folder = mount / group;
    if (const auto limit = number(folder / limit_file)) {
      const std::uint64_t used = field(folder / "memory.stat", used_field).value_or(0);
      left = std::min(left, *limit > used ? *limit - used : 0);
    }
    if (group.empty()) return left;
  }
}

std::uint64_t left_in_groups(const std::filesystem::path& root) {
  std::ifstream in(root / "proc/self/cgroup");
  std::uint64_t left = kNoLimit;
  // "0::/path" is version 2, "4:memory:/path" version 1.
  for (std::string line; std::getline(in, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",",
                      path = line.substr(second + 1);
    if (controllers == ",,")
      left = std::min(left, left_in(root / "sys/fs/cgroup", path, "memory.max", "anon"));
    else if (controllers.find(",memory,") != controllers.npos)
      left = std::min(left, left_in(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes", "total_rss"));
  }
  return left;
}

}  // namespace

std::uint64_t free_memory(const std::filesystem::path& root) {
  const std::uint64_t available = field(root / "proc/meminfo", "MemAvailable:").value_or(0) * 1024;
  const std::uint64_t left = left_in_groups(root);
  return available == 0 && left == kNoLimit ? 0 : std::min(available == 0 ? kNoLimit : available, left);
}

}  // namespace hadal::io
