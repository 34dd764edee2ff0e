#include "hadal/cli/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "hadal/cli/interrupt.h"
#include "hadal/cli/standard_error.h"
#include "hadal/core/error.h"

namespace hadal::cli {
namespace {

constexpr std::chrono::milliseconds kRedraw{200};
constexpr std::size_t kBarWidth = 30;

}  // namespace

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
    fail("stdout: cannot be written: {}", std::strerror(errno));
}

void flush_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) fail("stdout: cannot be written: {}", std::strerror(errno));
}

bool stdin_is_terminal() {
  return ::isatty(STDIN_FILENO) == 1;
}
bool stdout_is_terminal() {
  return ::isatty(STDOUT_FILENO) == 1;
}

std::string read_stdin() {
  std::string text;
  char block[65536];
  for (std::size_t n; (n = std::fread(block, 1, sizeof(block), stdin)) > 0;) text.append(block, n);
  if (interrupted()) throw Interrupted("interrupted");
  HADAL_CHECK(!std::ferror(stdin), "stdin: cannot be read: {}", std::strerror(errno));
  return text;
}

ProgressBar::ProgressBar(std::string label, std::uint64_t total)
    : label_(std::move(label)),
      total_(std::max<std::uint64_t>(total, 1)),
      shown_(::isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()) {}

ProgressBar::~ProgressBar() {
  if (shown_ && last_ != std::chrono::steady_clock::time_point()) to_stderr("\r\x1b[K");
}

void ProgressBar::update(std::uint64_t done) {
  const auto now = std::chrono::steady_clock::now();
  if (!shown_ || now - last_ < kRedraw) return;
  last_ = now;
  const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(kBarWidth));
  to_stderr(fmt::format("\r{} [{}{}] {:3.0f}% {:.0f}s left\x1b[K", label_, std::string(filled, '#'),
             std::string(kBarWidth - filled, ' '), share * 100, share > 0 ? seconds / share - seconds : 0.0));
  std::fflush(stderr);
}

}  // namespace hadal::cli
