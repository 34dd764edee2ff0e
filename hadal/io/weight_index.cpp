#include "hadal/io/weight_index.h"

#include <simdjson.h>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"

namespace hadal::io {

std::map<std::string, std::string> read_weight_index(const std::filesystem::path& path) {
  return parse_weight_index(read_text_file(path), path.string());
}

std::map<std::string, std::string> parse_weight_index(std::string_view text, const std::string& where) {
  text = utf8_text(text, where);
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  const auto status = parser.parse(text.data(), text.size()).get(document);
  HADAL_CHECK(status == simdjson::SUCCESS, "{}: not valid JSON: {}", where, simdjson::error_message(status));
  simdjson::dom::object map;
  HADAL_CHECK(document["weight_map"].get_object().get(map) == simdjson::SUCCESS, "{}: weight_map is not an object",
              where);
  std::map<std::string, std::string> weights;
  for (const auto [name, value] : map) {
    std::string_view file;
    HADAL_CHECK(value.get_string().get(file) == simdjson::SUCCESS, "{}: weight_map {} is not a file name", where, name);
    HADAL_CHECK(
        !file.empty() && file.find('/') == file.npos && file.find('\0') == file.npos && file != "." && file != "..",
        "{}: weight_map {} names \"{}\", a file in the same directory was expected", where, name, file);
    HADAL_CHECK(weights.emplace(name, file).second, "{}: weight_map has {} twice", where, name);
  }
  HADAL_CHECK(!weights.empty(), "{}: weight_map is empty", where);
  return weights;
}

void write_weight_index(const std::filesystem::path& path, const std::map<std::string, std::string>& weight_map,
                        std::uint64_t total_bytes) {
  nlohmann::json json;
  json["metadata"]["total_size"] = total_bytes;
  json["weight_map"] = weight_map;
  write_text_file_atomically(path, json.dump(2) + "\n");
}

}  // namespace hadal::io
