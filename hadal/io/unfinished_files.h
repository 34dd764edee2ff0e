// What is left where a process was killed while it wrote a file by way of a temporary name (write_text_file_atomically,
// SafetensorsWriter): that name with the process's id.
#pragma once

#include <filesystem>

namespace hadal::io {

// Takes away the unfinished forms of `path`, and nothing else. No other process may be writing it. What cannot be taken
// away stays.
void remove_unfinished(const std::filesystem::path& path);

}  // namespace hadal::io
