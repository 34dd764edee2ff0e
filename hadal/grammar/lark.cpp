#include "hadal/grammar/lark.h"

#include "hadal/core/error.h"
#include "hadal/io/json.h"

namespace hadal::grammar {
namespace {

// Enough for an object printed with an indentation of four at ten levels.
constexpr const char* kWhiteSpace = R"([\x20\x0A\x0D\x09]{1,41})";
constexpr const char* kOptions = "x-guidance";

}  // namespace

std::string lark_text(std::string_view text) {
  try {
    return io::Json(text).dump();
  } catch (const io::Json::exception&) {
    throw InvalidRequest("a text of the grammar is not UTF-8");
  }
}

std::string lark_token(TokenId token) {
  return fmt::format("<[{}]>", token);
}

std::string lark_pieces(const Pieces& pieces) {
  std::string out;
  for (const Piece& piece : pieces) {
    if (piece.token < 0 && piece.text.empty()) continue;
    (out += out.empty() ? "" : " ") += piece.token >= 0 ? lark_token(piece.token) : lark_text(piece.text);
  }
  return out.empty() ? lark_text("") : out;
}

std::string lark_json(std::string_view schema) {
  return "%json " + bounded_schema(schema);
}

std::string regex_of_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20)
      out += fmt::format("\\x{:02X}", byte);
    else if (byte < 0x7F && std::string_view("\\/.+*?()|[]{}^$#&-~\"<> ").find(c) != std::string_view::npos)
      out += fmt::format("\\x{:02X}", byte);
    else
      out += c;
  }
  return out;
}

std::string bounded_schema(std::string_view schema) {
  io::Json parsed;
  try {
    parsed = io::parse_json(schema, "the JSON schema");
  } catch (const InvalidRequest&) {
    throw;
  } catch (const Error& e) {
    throw InvalidRequest(e.what());
  }
  if (parsed.is_boolean()) parsed = parsed.get<bool>() ? io::Json::object() : io::Json{{"not", io::Json::object()}};
  if (!parsed.is_object())
    throw InvalidRequest(fmt::format("the JSON schema is of type {}, an object was expected", parsed.type_name()));
  if (parsed.contains(kOptions))
    throw InvalidRequest(fmt::format("the JSON schema has {}, options of a library that are not taken", kOptions));
  parsed[kOptions] = {{"item_separator", ","},       {"key_separator", ":"},
                      {"whitespace_flexible", true}, {"whitespace_pattern", kWhiteSpace},
                      {"coerce_one_of", false},      {"lenient", false}};
  return parsed.dump();
}

}  // namespace hadal::grammar
