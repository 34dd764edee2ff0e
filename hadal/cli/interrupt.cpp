#include "hadal/cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "hadal/io/mapped_file.h"

namespace hadal::cli {
namespace {

std::atomic<bool> flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

void on_signal(int) {
  flag.store(true, std::memory_order_relaxed);
}

void say(const char* text) {
  // Nothing can be done about a stderr that is closed.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text, std::strlen(text));
}

// A page of a model's mapping that is no longer in the file: it was cut short by someone else. There is no way back to
// where an Error could be thrown.
void on_bus_error(int number, siginfo_t* info, void*) {
  if (const char* path = io::mapped_file_at(info->si_addr)) {
    say("hadal: ");
    say(path);
    say(": became shorter while it was in use, or the disk could not be read; start again\n");
    ::_exit(2);
  }
  ::signal(number, SIG_DFL);
  ::raise(number);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A terminal that is closed, unless nohup has said otherwise.
  struct sigaction before{};
  if (sigaction(SIGHUP, nullptr, &before) == 0 && before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
  // A closed pipe and a file-size limit are errors of a write like a full disk, not the end of the program.
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
  sigaction(SIGXFSZ, &action, nullptr);
  struct sigaction bus{};
  bus.sa_sigaction = on_bus_error;
  bus.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &bus, nullptr);
}

bool interrupted() {
  return flag.load(std::memory_order_relaxed);
}
void clear_interrupt() {
  flag.store(false, std::memory_order_relaxed);
}

}  // namespace hadal::cli
