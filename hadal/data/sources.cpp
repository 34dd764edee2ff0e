#include "hadal/data/sources.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "hadal/core/error.h"
#include "hadal/io/json.h"

namespace hadal::data {
namespace {

namespace fs = std::filesystem;

void set_number(SourceSpec& source, std::string_view key, double value, const std::string& where) {
  HADAL_CHECK(std::isfinite(value) && value > 0, "{}: {} is {}, a number above 0 was expected", where, key, value);
  (key == "weight" ? source.weight : source.epochs) = value;
}

bool is_number_key(std::string_view key) {
  return key == "weight" || key == "epochs";
}

std::vector<std::string> paths_of(const toml::node& value, const std::string& where) {
  std::vector<std::string> out;
  const auto add = [&](const toml::node& one) {
    const auto* text = one.as_string();
    HADAL_CHECK(text, "{}: path must be text or a list of texts", where);
    out.push_back(text->get());
  };
  if (const auto* list = value.as_array())
    for (const toml::node& one : *list) add(one);
  else
    add(value);
  return out;
}

SourceSpec source_of(const toml::table& table, const fs::path& file) {
  SourceSpec source;
  for (const auto& [key, value] : table) {
    const std::string where = fmt::format("{}, line {}", file.string(), value.source().begin.line);
    if (key == "name") {
      const auto* name = value.as_string();
      HADAL_CHECK(name, "{}: name must be text", where);
      source.name = name->get();
    } else if (key == "path") {
      for (const std::string& path : paths_of(value, where)) source.inputs.push_back(file.parent_path() / path);
    } else if (is_number_key(key.str())) {
      const auto number = value.value<double>();
      HADAL_CHECK(number, "{}: {} must be a number", where, key.str());
      set_number(source, key.str(), *number, where);
    } else {
      fail("{}: {} is not known; name, path, weight and epochs are", where, key.str());
    }
  }
  const auto line = table.source().begin.line;
  HADAL_CHECK(!source.name.empty(), "{}, line {}: the source has no name", file.string(), line);
  HADAL_CHECK(!source.inputs.empty(), "{}, line {}: source {} has no path", file.string(), line, source.name);
  return source;
}

bool fits_a_file_name(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  };
  return !name.empty() && name.size() <= 100 && name[0] != '.' && std::all_of(name.begin(), name.end(), fits);
}

void add_directory(const fs::path& directory, std::vector<fs::path>& out) {
  std::vector<fs::path> found;
  std::error_code status;
  for (auto it = fs::recursive_directory_iterator(directory, fs::directory_options::follow_directory_symlink, status);
       !status && it != fs::recursive_directory_iterator(); it.increment(status)) {
    if (it->path().filename().string().starts_with('.')) {
      it.disable_recursion_pending();
      continue;
    }
    std::error_code ignored;
    if (it->is_regular_file(ignored)) found.push_back(it->path());
  }
  HADAL_CHECK(!status, "{}: cannot be read: {}", directory.string(), status.message());
  HADAL_CHECK(!found.empty(), "{}: has no files", directory.string());
  std::sort(found.begin(), found.end());
  out.insert(out.end(), found.begin(), found.end());
}

}  // namespace

SourceSpec parse_source_spec(const std::string& text) {
  const std::string where = fmt::format("--source {}", text);
  SourceSpec source;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, end - at);
    const std::size_t equals = part.find('=');
    HADAL_CHECK(equals != part.npos && equals > 0 && equals + 1 < part.size(),
                "{}: NAME=PATH was expected, and then ,weight=W or ,epochs=E (a path with a comma goes into --sources)",
                where);
    const std::string key = part.substr(0, equals), value = part.substr(equals + 1);
    if (at == 0) {
      source.name = key;
      source.inputs.push_back(value);
    } else {
      HADAL_CHECK(is_number_key(key), "{}: {} is not known; weight and epochs are", where, key);
      double number = 0;
      const auto [stop, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      HADAL_CHECK(error == std::errc() && stop == value.data() + value.size(), "{}: {} is not a number", where, value);
      set_number(source, key, number, where);
    }
    at = end + 1;
  }
  return source;
}

std::vector<SourceSpec> read_source_file(const fs::path& path) {
  const std::string text = io::read_text_file(path, std::size_t{1} << 20);
  toml::table table;
  try {
    table = toml::parse(text, path.string());
  } catch (const toml::parse_error& e) {
    fail("{}, line {}: not valid TOML: {}", path.string(), e.source().begin.line, e.description());
  }
  std::vector<SourceSpec> out;
  for (const auto& [key, value] : table) {
    const auto line = value.source().begin.line;
    HADAL_CHECK(key == "source", "{}, line {}: {} is not known; [[source]] is", path.string(), line, key.str());
    const auto* list = value.as_array();
    HADAL_CHECK(list, "{}, line {}: source must be a list of tables, [[source]]", path.string(), line);
    for (const toml::node& one : *list) {
      HADAL_CHECK(one.as_table(), "{}, line {}: source must be a list of tables, [[source]]", path.string(), line);
      out.push_back(source_of(*one.as_table(), path));
    }
  }
  HADAL_CHECK(!out.empty(), "{}: has no [[source]]", path.string());
  return out;
}

void check_sources(const std::vector<SourceSpec>& sources) {
  HADAL_CHECK(!sources.empty(), "data build: there is nothing to build from; name files, --source or --sources");
  std::set<std::string> names;
  for (const SourceSpec& s : sources) {
    HADAL_CHECK(fits_a_file_name(s.name), "source \"{}\": a name has letters, digits, '-', '_' and '.', 100 at most",
                s.name);
    HADAL_CHECK(names.insert(s.name).second, "source {}: is named twice", s.name);
    HADAL_CHECK(s.weight.has_value() == sources[0].weight.has_value(),
                "source {}: has {} weight and source {} has {}; give one to all or to none", s.name,
                s.weight ? "a" : "no", sources[0].name, sources[0].weight ? "one" : "none");
  }
}

std::vector<fs::path> source_files(const SourceSpec& source) {
  std::vector<fs::path> out;
  for (const fs::path& input : source.inputs) {
    std::error_code status;
    if (fs::is_directory(input, status))
      add_directory(input, out);
    else
      out.push_back(input);
  }
  return out;
}

}  // namespace hadal::data
