#include <nlohmann/json.hpp>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/tokenizer/tokenizer_files.h"

namespace hadal::tokenizer {
namespace {

using io::Json;

// A token is spelled as a string or as {"content": ...}.
std::string token_text(const Json& json, const char* field, const std::string& where) {
  const auto it = json.find(field);
  if (it == json.end() || it->is_null()) return "";
  const Json& value = it->is_object() && it->contains("content") ? it->at("content") : *it;
  HADAL_CHECK(value.is_string(), "{}: {} is not a token", where, field);
  return value.get<std::string>();
}

bool flag(const Json& json, const char* field, bool otherwise, const std::string& where) {
  const auto it = json.find(field);
  if (it == json.end() || it->is_null()) return otherwise;
  HADAL_CHECK(it->is_boolean(), "{}: {} is not true or false", where, field);
  return it->get<bool>();
}

}  // namespace

TokenizerConfig parse_tokenizer_config(std::string_view text, const std::string& where) {
  const Json json = io::parse_json(text, where);
  HADAL_CHECK(json.is_object(), "{}: a JSON object was expected", where);
  TokenizerConfig config;
  config.bos_token = token_text(json, "bos_token", where);
  config.eos_token = token_text(json, "eos_token", where);
  config.pad_token = token_text(json, "pad_token", where);
  config.add_bos_token = flag(json, "add_bos_token", false, where);
  const auto added = json.find("added_tokens_decoder");
  if (added == json.end() || added->is_null()) return config;
  HADAL_CHECK(added->is_object(), "{}: added_tokens_decoder is not an object", where);
  for (const auto& [key, value] : added->items()) {
    HADAL_CHECK(!key.empty() && key.size() < 9 && key.find_first_not_of("0123456789") == key.npos && value.is_object(),
                "{}: added_tokens_decoder has \"{}\", an id and its token were expected", where, key);
    AddedToken token;
    token.id = static_cast<TokenId>(std::stol(key));
    token.content = token_text(value, "content", where);
    HADAL_CHECK(!token.content.empty(), "{}: added_tokens_decoder {} has no content", where, key);
    token.single_word = flag(value, "single_word", false, where);
    token.lstrip = flag(value, "lstrip", false, where);
    token.rstrip = flag(value, "rstrip", false, where);
    token.normalized = flag(value, "normalized", false, where);
    token.special = flag(value, "special", false, where);
    config.added_tokens_decoder[token.id] = token;
  }
  return config;
}

}  // namespace hadal::tokenizer
