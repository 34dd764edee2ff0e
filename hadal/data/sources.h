// What a data set is built from: named sources, each some files, with a share of the training tokens.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace hadal::data {

struct SourceSpec {
  std::string name;                           // letters, digits, '-', '_' and '.'
  std::vector<std::filesystem::path> inputs;  // files and directories
  std::optional<double> weight, epochs;
};

// "books=/data/books,weight=2,epochs=1.5". Throws Error for what is none.
SourceSpec parse_source_spec(const std::string& text);

// A TOML file: a [[source]] table for each, with name, path (text or a list, relative to the file), weight, epochs.
std::vector<SourceSpec> read_source_file(const std::filesystem::path& path);

// Names that occur twice or cannot be file names, weights that only some have, are Errors.
void check_sources(const std::vector<SourceSpec>& sources);

// The files of a source: those named, and of directories all within that are not hidden, in the order of their names.
std::vector<std::filesystem::path> source_files(const SourceSpec& source);

}  // namespace hadal::data
