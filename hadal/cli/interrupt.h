// Ctrl-C as a flag that long work looks at between steps.
#pragma once

namespace hadal::cli {

void install_interrupt_handler();  // SIGINT and SIGTERM
bool interrupted();
void clear_interrupt();

// What commands return when they stopped because of it, as shells expect.
inline constexpr int kInterrupted = 130;

}  // namespace hadal::cli
