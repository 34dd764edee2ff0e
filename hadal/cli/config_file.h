// Options of a command in a TOML file: their long names as keys.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace hadal::cli {

// Sets what the command line has not set. Throws Error with file and line for what is no TOML, no option of the command
// or not a value of it.
void apply_config(const std::string& path, CLI::App& command);

}  // namespace hadal::cli
