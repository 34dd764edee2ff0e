#include "hadal/tokenizer/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "hadal/core/error.h"
#include "hadal/tokenizer/regex.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::tokenizer::jinja {
namespace {

constexpr int kDeepestValue = 200;
constexpr std::size_t kHeaviest = 1'000'000;
// What a step pays for: bytes of text, and references of a list that is copied.
constexpr std::size_t kBytesAStep = 64, kReferencesAStep = 16;

// Python's repr of a float: the shortest digits that read back, with ".0" for whole numbers.
std::string float_text(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
  if (d == std::floor(d) && std::abs(d) < 1e16) return fmt::format("{:.1f}", d);
  std::string text = fmt::format("{}", d);
  return text;
}

// A character as Python's repr writes it: escaped if it is a control, a separator, or not assigned.
void append_printable(std::string& out, std::uint32_t c, std::size_t length, const std::string& bytes) {
  static const Regex hidden(R"(\A[\p{C}\p{Z}])", "repr");
  Regex::Match match{};
  if (c >= 0x20 && c < 0x7F) {
    out += bytes;
  } else if (length == 0 || (c >= 0x80 && !hidden.find(bytes, 0, match))) {
    out += bytes;
  } else {
    out += c < 0x100     ? fmt::format("\\x{:02x}", c)
           : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                         : fmt::format("\\U{:08x}", c);
  }
}

std::string quoted(const std::string& text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == quote || c == '\\')
      (out += '\\') += c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (static_cast<unsigned char>(c) < 0x80)
      append_printable(out, static_cast<unsigned char>(c), 1, text.substr(i, 1));
    else {
      const CodePoint wide = decode_utf8(std::string_view(text).substr(i, 4));
      const std::size_t length = std::max<std::size_t>(1, wide.length);
      append_printable(out, wide.value, wide.length, text.substr(i, length));
      i += length - 1;
    }
  }
  return out + quote;
}

void append_escaped(std::string& out, std::uint32_t c) {
  if (c >= 0x10000) {
    c -= 0x10000;
    out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (c >> 10), 0xDC00 + (c & 0x3FF));
  } else {
    out += fmt::format("\\u{:04x}", c);
  }
}

std::string json_string(const std::string& text, bool ensure_ascii) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const CodePoint wide = ensure_ascii ? decode_utf8(std::string_view(text).substr(i, 4)) : CodePoint{};
    if (wide.length > 1 || (ensure_ascii && c == 0x7F)) {
      append_escaped(out, wide.value);
      i += wide.length - 1;
      continue;
    }
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<int>(c));
        else
          out += c;
    }
  }
  return out + "\"";
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void write(const Value& v, int depth) {
    if (v.is_none())
      out += "null";
    else if (const bool* b = v.boolean())
      out += *b ? "true" : "false";
    else if (const auto* i = v.integer())
      out += std::to_string(*i);
    else if (const BigInteger* big = v.big_integer())
      out += big->digits;
    else if (const double* d = v.floating())
      out += std::isnan(*d) ? "NaN" : std::isinf(*d) ? (*d > 0 ? "Infinity" : "-Infinity") : float_text(*d);
    else if (const Dict* m = v.dict_form())
      write_dict(*m, depth);
    else if (const Text* t = v.text())
      out += json_string(t->text, style_.ensure_ascii);
    else if (const List* l = v.is_tuple() || v.is_plain_list() ? v.list() : nullptr)
      write_list(*l, depth);
    else
      fail("tojson: a value of type {} is not JSON", v.type_name());
  }
  std::string out;

 private:
  void new_line(int depth) {
    if (!style_.indented) return;
    out += '\n';
    for (int i = 0; i < depth; ++i) out += style_.indent;
  }
  // With an indent the separator loses its trailing space, as json.dumps does by default.
  void separate(bool first) {
    if (!first) out += style_.item_separator;
  }
  void write_list(const List& list, int depth) {
    if (list.empty()) return void(out += "[]");
    out += '[';
    for (std::size_t i = 0; i < list.size(); ++i) {
      separate(i == 0);
      new_line(depth + 1);
      write(list[i], depth + 1);
    }
    new_line(depth);
    out += ']';
  }
  void write_dict(const Dict& dict, int depth) {
    if (dict.empty()) return void(out += "{}");
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict) entries.push_back(&entry);
    if (style_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return compare(a->first, b->first) < 0; });
    out += '{';
    for (std::size_t i = 0; i < entries.size(); ++i) {
      separate(i == 0);
      new_line(depth + 1);
      const Value& key = entries[i]->first;
      HADAL_CHECK(!key.list(), "tojson: a tuple cannot be a key");
      out += json_string(key.text() ? key.text()->text : to_json(key, {}), style_.ensure_ascii);
      out += style_.key_separator;
      write(entries[i]->second, depth + 1);
    }
    new_line(depth);
    out += '}';
  }

  const JsonStyle& style_;
};

}  // namespace

Text make_text(std::string_view characters, Origin origin) {
  Text t;
  t.append(characters, origin);
  return t;
}

Text slice_text(const Text& text, std::size_t begin, std::size_t end) {
  Text out;
  std::size_t at = 0;
  for (const Prompt::Run& run : text.runs) {
    const std::size_t from = std::max(at, begin), to = std::min(run.end, end);
    if (from < to) out.append(std::string_view(text.text).substr(from, to - from), run.origin);
    at = run.end;
  }
  return out;
}

void append_text(Text& to, const Text& more) {
  std::size_t at = 0;
  for (const Prompt::Run& run : more.runs) {
    to.append(std::string_view(more.text).substr(at, run.end - at), run.origin);
    at = run.end;
  }
}

Value::Value(List l, SequenceKind kind) : kind_(kind) {
  for (const Value& item : l) hold(item);
  v_ = std::make_shared<const List>(std::move(l));
}

Value tuple_of(List items) {
  return Value(std::move(items), SequenceKind::kTuple);
}
Value generator_of(List items) {
  return Value(std::move(items), SequenceKind::kGenerator);
}

Value::Value(Dict d) {
  for (const auto& [key, value] : d) {
    hold(key);
    hold(value);
  }
  v_ = std::make_shared<const Dict>(std::move(d));
}

void Value::hold(const Value& inner) {
  depth_ = std::max(depth_, inner.depth_ + 1);
  inner_weight_ += inner.weight();
  HADAL_CHECK(depth_ <= kDeepestValue, "lists and dicts are nested more than {} deep", kDeepestValue);
  HADAL_CHECK(inner_weight_ <= kHeaviest, "a list or dict holds more than {} values", kHeaviest);
}

Value Value::with_other_form(Value other) const {
  Value both = *this;
  both.hold(other);
  both.other_ = std::make_shared<const Value>(std::move(other));
  return both;
}

std::size_t Value::weight() const {
  return (text() ? width() : 1) + inner_weight_;
}

std::size_t Value::width() const {
  if (const Text* t = text()) return 1 + t->text.size() / kBytesAStep;
  if (const List* l = list()) return 1 + l->size() / kReferencesAStep;
  if (const Dict* d = dict()) return 1 + d->size() / kReferencesAStep;
  return 1;
}

bool Value::truthy() const {
  if (const bool* b = boolean()) return *b;
  if (const auto* i = integer()) return *i != 0;
  if (const double* d = floating()) return *d != 0;
  if (const Text* t = text()) return !t->text.empty();
  if (const List* l = list()) return !l->empty();
  if (const Dict* m = dict()) return !m->empty();
  return space() || function() || big_integer();
}

double Value::number() const {
  if (const double* d = floating()) return *d;
  return static_cast<double>(as_integer());
}

std::int64_t Value::as_integer() const {
  if (const bool* b = boolean()) return *b;
  const auto* i = integer();
  HADAL_CHECK(i, "a number was expected, {} came", type_name());
  return *i;
}

const char* Value::type_name() const {
  static constexpr const char* kSequences[] = {"list", "tuple", "range", "dict view", "generator"};
  if (list()) return kSequences[static_cast<std::size_t>(kind_)];
  static constexpr const char* kNames[] = {"undefined", "NoneType", "bool",      "int",      "float", "str",
                                           "list",      "dict",     "namespace", "function", "int"};
  return kNames[v_.index()];
}

const Value* Value::find(std::string_view key) const {
  if (const Dict* d = dict())
    for (const auto& [k, v] : *d)
      if (k.text() && k.text()->text == key) return &v;
  return nullptr;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return compare(a, b) == 0 && a.number() == b.number();
  if (a.big_integer() && b.big_integer()) return a.big_integer()->digits == b.big_integer()->digits;
  if (a.text() && b.text()) return a.text()->text == b.text()->text;
  if (a.list() && b.list())
    return a.kind() == b.kind() &&
           std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end(), equal);
  if (a.dict() && b.dict()) {
    if (a.dict()->size() != b.dict()->size()) return false;
    return std::all_of(a.dict()->begin(), a.dict()->end(), [&](const auto& entry) {
      return std::any_of(b.dict()->begin(), b.dict()->end(), [&](const auto& other) {
        return equal(entry.first, other.first) && equal(entry.second, other.second);
      });
    });
  }
  if (a.space() || b.space()) return a.space() == b.space();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(const Value& a, const Value& b) {
  // Those from documents are positive and above every number of 64 bits with a sign, and have 19 or 20 digits.
  if (a.big_integer() && b.big_integer()) {
    const std::string &x = a.big_integer()->digits, &y = b.big_integer()->digits;
    return x.size() != y.size() ? (x.size() < y.size() ? -1 : 1) : x.compare(y);
  }
  if (a.big_integer() && (b.integer() || b.boolean())) return 1;
  if (b.big_integer() && (a.integer() || a.boolean())) return -1;
  if (a.is_number() && b.is_number()) {
    // Exact beside a float: its 64 bits of fraction hold every integer here.
    static_assert(std::numeric_limits<long double>::digits >= 64);
    const auto exact = [](const Value& v) {
      return v.floating() ? static_cast<long double>(*v.floating()) : static_cast<long double>(v.as_integer());
    };
    const long double x = exact(a), y = exact(b);
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.text() && b.text()) return a.text()->text.compare(b.text()->text);
  if (a.list() && b.list() && a.kind() == b.kind()) {
    for (std::size_t i = 0; i < std::min(a.list()->size(), b.list()->size()); ++i)
      if (const int c = compare((*a.list())[i], (*b.list())[i])) return c;
    return a.list()->size() < b.list()->size() ? -1 : a.list()->size() > b.list()->size() ? 1 : 0;
  }
  fail("{} and {} cannot be ordered", a.type_name(), b.type_name());
}

namespace {

// Ranges remember their numbers only; of those with another step than 1 Python would print the end it was given.
std::string range_text(const List& l) {
  const std::int64_t first = l.empty() ? 0 : l.front().as_integer();
  const bool by_one = l.size() < 2 || l[1].as_integer() == first + 1;
  HADAL_CHECK(by_one && !l.empty(), "a range cannot be printed; | list makes a list of it");
  return fmt::format("range({}, {})", first, l.back().as_integer() + 1);
}

}  // namespace

std::string repr(const Value& v) {
  if (const Text* t = v.text()) return quoted(t->text);
  if (const List* l = v.list()) {
    if (v.kind() == SequenceKind::kRange) return range_text(*l);
    HADAL_CHECK(v.is_tuple() || v.is_plain_list(), "a {} cannot be printed; | list makes a list of it", v.type_name());
    std::string out;
    for (std::size_t i = 0; i < l->size(); ++i) out += (i ? ", " : "") + repr((*l)[i]);
    if (v.is_tuple()) return "(" + out + (l->size() == 1 ? ",)" : ")");
    return "[" + out + "]";
  }
  if (const Dict* d = v.dict()) {
    std::string out = "{";
    for (std::size_t i = 0; i < d->size(); ++i)
      out += (i ? ", " : "") + repr((*d)[i].first) + ": " + repr((*d)[i].second);
    return out + "}";
  }
  if (const bool* b = v.boolean()) return *b ? "True" : "False";
  if (const auto* i = v.integer()) return std::to_string(*i);
  if (const BigInteger* big = v.big_integer()) return big->digits;
  if (const double* d = v.floating()) return float_text(*d);
  if (v.is_none()) return "None";
  if (v.is_undefined()) return "Undefined";
  fail("a {} cannot be printed", v.type_name());
}

Text to_text(const Value& v) {
  if (const Text* t = v.text_form()) return *t;
  return v.is_undefined() ? Text() : make_text(repr(v), Origin::kUser);
}

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(value, 0);
  return writer.out;
}

Value from_json(const nlohmann::ordered_json& json, Origin origin) {
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean:
      return json.get<bool>();
    case nlohmann::ordered_json::value_t::number_integer:
      return json.get<std::int64_t>();
    case nlohmann::ordered_json::value_t::number_unsigned:
      if (json.get<std::uint64_t>() <= INT64_MAX) return json.get<std::int64_t>();
      return BigInteger{json.dump()};
    case nlohmann::ordered_json::value_t::number_float:
      return json.get<double>();
    case nlohmann::ordered_json::value_t::string:
      return make_text(json.get_ref<const std::string&>(), origin);
    case nlohmann::ordered_json::value_t::array: {
      List list;
      for (const auto& item : json) list.push_back(from_json(item, origin));
      return list;
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict dict;
      for (const auto& [key, value] : json.items()) dict.emplace_back(make_text(key, origin), from_json(value, origin));
      return dict;
    }
    default:
      return None{};
  }
}

}  // namespace hadal::tokenizer::jinja
