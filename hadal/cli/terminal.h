// What the program prints: checked output to stdout, progress on stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace hadal::cli {

// Throws Error when stdout takes no more (a full disk).
void print(std::string_view text);
void flush_output();

bool stdin_is_terminal();
bool stdout_is_terminal();

// Reads all of stdin, byte for byte.
std::string read_stdin();

// A line on stderr that is redrawn a few times a second and erased at the end; on a terminal only.
class ProgressBar {
 public:
  ProgressBar(std::string label, std::uint64_t total);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  void update(std::uint64_t done);

 private:
  std::string label_;
  std::uint64_t total_;
  bool shown_;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace hadal::cli
