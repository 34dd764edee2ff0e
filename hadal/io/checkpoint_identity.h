// Which weights a directory holds, for what was computed with them and is kept beyond a process.
#pragma once

#include <filesystem>

#include "hadal/io/digest.h"

namespace hadal::io {

// Changes when config.json does, or a weight file's name, size, time of change or one of some samples of its bytes. To
// read everything would take as long as to load it.
Digest checkpoint_identity(const std::filesystem::path& directory);

// Of all bytes of a file, a MiB of it in memory at a time. Throws Error if it cannot be read.
Digest file_digest(const std::filesystem::path& path);

}  // namespace hadal::io
