// Signals: Ctrl-C as a flag that long work looks at between steps, closed pipes as errors.
#pragma once

namespace hadal::cli {

// SIGINT and SIGTERM set the flag; SIGPIPE and SIGXFSZ are ignored, so that writes fail with a reason.
void install_signal_handlers();
bool interrupted();
void clear_interrupt();

// What commands return when they stopped because of it, as shells expect.
inline constexpr int kInterrupted = 130;

}  // namespace hadal::cli
