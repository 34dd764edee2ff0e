#include "hadal/cli/config_file.h"

#include <CLI/CLI.hpp>
#include <optional>
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "hadal/core/error.h"
#include "hadal/io/json.h"

namespace hadal::cli {
namespace {

std::optional<std::string> text_of(const toml::node& value) {
  if (const auto* s = value.as_string()) return s->get();
  if (const auto* b = value.as_boolean()) return b->get() ? "true" : "false";
  if (const auto* i = value.as_integer()) return std::to_string(i->get());
  if (const auto* d = value.as_floating_point()) return fmt::format("{}", d->get());
  return std::nullopt;
}

// One value, or those of a list.
std::vector<std::string> texts_of(const toml::node& value, const std::string& where) {
  std::vector<std::string> out;
  const auto add = [&](const toml::node& one) {
    const auto text = text_of(one);
    HADAL_CHECK(text, "{}: text, a number, true, false or a list of them was expected", where);
    out.push_back(*text);
  };
  if (const auto* list = value.as_array())
    for (const toml::node& one : *list) add(one);
  else
    add(value);
  return out;
}

toml::table parse(const std::string& path) {
  const std::string text = io::read_text_file(path, std::size_t{1} << 20);
  try {
    return toml::parse(text, path);
  } catch (const toml::parse_error& e) {
    fail("{}, line {}: not valid TOML: {}", path, e.source().begin.line, e.description());
  }
}

}  // namespace

void apply_config(const std::string& path, CLI::App& command) {
  for (const auto& [key, value] : parse(path)) {
    const std::string name(key.str());
    const std::string where = fmt::format("{}, line {}: {}", path, value.source().begin.line, name);
    CLI::Option* option = command.get_option_no_throw("--" + name);
    HADAL_CHECK(option && name != "config" && name != "help", "{} is not an option of `hadal {}`", where,
                command.get_name());
    if (option->count() > 0) continue;
    try {
      for (const std::string& text : texts_of(value, where)) option->add_result(text);
      option->run_callback();
    } catch (const CLI::Error& e) {
      fail("{}: {}", where, e.what());
    }
  }
}

}  // namespace hadal::cli
