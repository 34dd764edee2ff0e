// How much memory this process may still take.
#pragma once

#include <cstdint>
#include <filesystem>

namespace hadal::io {

// Bytes: MemAvailable, or what the limit of the process's control group (v2 or v1, or one above it) leaves if that is
// less. File pages do not count as taken: they are given up on demand. 0 if the system does not tell. `root` is where
// /proc and /sys/fs/cgroup are, for tests.
std::uint64_t free_memory(const std::filesystem::path& root = "/");

}  // namespace hadal::io
