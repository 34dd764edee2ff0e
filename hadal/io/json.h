// JSON documents (nlohmann-json, objects in file order). Includers that only pass documents on need json_fwd alone.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace hadal::io {

using Json = nlohmann::ordered_json;

// Parses text; `where` (a file name, "line 3 of prompts.jsonl") opens the error sentence, which has line and column.
Json parse_json(std::string_view text, std::string_view where);
Json read_json_file(const std::filesystem::path& path);

// The whole file; throws Error naming the path. `limit` guards against a wrong file given by mistake.
std::string read_text_file(const std::filesystem::path& path, std::size_t limit = std::size_t{1} << 32);

// Replaces the file's content by way of a temporary name in the same folder, fsync and rename: a reader sees the old or
// the new content, never a part.
void write_text_file_atomically(const std::filesystem::path& path, std::string_view text);

}  // namespace hadal::io
