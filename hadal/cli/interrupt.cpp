#include "hadal/cli/interrupt.h"

#include <signal.h>

#include <atomic>

namespace hadal::cli {
namespace {

std::atomic<bool> flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

void on_signal(int) {
  flag.store(true, std::memory_order_relaxed);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A closed pipe and a file-size limit are errors of a write like a full disk, not the end of the program.
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  sigaction(SIGXFSZ, &action, nullptr);
}

bool interrupted() {
  return flag.load(std::memory_order_relaxed);
}
void clear_interrupt() {
  flag.store(false, std::memory_order_relaxed);
}

}  // namespace hadal::cli
