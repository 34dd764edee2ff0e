#include "hadal/tokenizer/jinja/builtins.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>

#include "hadal/core/error.h"
#include "hadal/tokenizer/jinja/text_functions.h"
#include "hadal/tokenizer/utf8.h"

namespace hadal::tokenizer::jinja {
namespace {

// Python's rules for slices: negative positions count from the end, out of range is cut off.
struct Range {
  std::int64_t begin, end, step;
};

Range slice_range(std::int64_t size, const Value& begin, const Value& end, const Value& step) {
  const auto given = [](const Value& v) { return !v.is_none() && !v.is_undefined(); };
  const std::int64_t stride = given(step) ? step.as_integer() : 1;
  HADAL_CHECK(stride != 0, "slice step cannot be zero");
  const auto clamp = [&](const Value& v, std::int64_t otherwise) {
    if (!given(v)) return otherwise;
    std::int64_t i = v.as_integer();
    if (i < 0) i += size;
    return stride > 0 ? std::clamp<std::int64_t>(i, 0, size) : std::clamp<std::int64_t>(i, -1, size - 1);
  };
  return stride > 0 ? Range{clamp(begin, 0), clamp(end, size), stride}
                    : Range{clamp(begin, size - 1), clamp(end, -1), stride};
}

}  // namespace

std::vector<std::size_t> character_starts(std::string_view text) {
  std::vector<std::size_t> starts;
  for (std::size_t i = 0; i < text.size(); i += std::max<std::size_t>(1, decode_utf8(text.substr(i, 4)).length))
    starts.push_back(i);
  starts.push_back(text.size());
  return starts;
}

List iterate(const Value& value) {
  if (const List* l = value.list()) return *l;
  List out;
  if (const Dict* d = value.dict_form()) {
    for (const auto& [k, v] : *d) out.push_back(k);
  } else if (const Text* t = value.text_form()) {
    const auto starts = character_starts(t->text);
    for (std::size_t i = 0; i + 1 < starts.size(); ++i) out.push_back(slice_text(*t, starts[i], starts[i + 1]));
  } else {
    HADAL_CHECK(value.is_undefined(), "a value of type {} cannot be iterated over", value.type_name());
  }
  return out;
}

Value get_item(const Value& object, const Value& key) {
  if (const Dict* d = key.text() ? object.dict_form() : object.dict()) {
    for (const auto& [k, v] : *d)
      if (equal(k, key)) return v;
    return Undefined{key.text() ? key.text()->text : repr(key)};
  }
  if (const Namespace* space = object.space(); space && key.text()) {
    for (const auto& [name, value] : space->fields)
      if (name == key.text()->text) return value;
    return Undefined{key.text()->text};
  }
  if (!key.integer() && !key.boolean()) return Undefined{key.text() ? key.text()->text : repr(key)};
  std::int64_t i = key.as_integer();
  const bool indexed = object.kind() != SequenceKind::kView && object.kind() != SequenceKind::kGenerator;
  if (const List* l = indexed ? object.list() : nullptr) {
    if (i < 0) i += static_cast<std::int64_t>(l->size());
    if (i >= 0 && i < static_cast<std::int64_t>(l->size())) return (*l)[static_cast<std::size_t>(i)];
  } else if (const Text* t = object.text()) {
    const auto starts = character_starts(t->text);
    const auto size = static_cast<std::int64_t>(starts.size()) - 1;
    if (i < 0) i += size;
    if (i >= 0 && i < size)
      return slice_text(*t, starts[static_cast<std::size_t>(i)], starts[static_cast<std::size_t>(i) + 1]);
  }
  return Undefined{repr(key)};
}

Value slice(const Value& object, const Value& begin, const Value& end, const Value& step) {
  const bool sliced = object.kind() != SequenceKind::kView && object.kind() != SequenceKind::kGenerator;
  if (const List* l = sliced ? object.list() : nullptr) {
    const Range r = slice_range(static_cast<std::int64_t>(l->size()), begin, end, step);
    List out;
    for (std::int64_t i = r.begin; r.step > 0 ? i < r.end : i > r.end; i += r.step)
      out.push_back((*l)[static_cast<std::size_t>(i)]);
    return Value(std::move(out), object.kind());
  }
  const Text* t = object.text_form();
  HADAL_CHECK(t, "a value of type {} cannot be sliced", object.type_name());
  const auto starts = character_starts(t->text);
  const Range r = slice_range(static_cast<std::int64_t>(starts.size()) - 1, begin, end, step);
  if (r.step == 1)
    return r.begin < r.end
               ? slice_text(*t, starts[static_cast<std::size_t>(r.begin)], starts[static_cast<std::size_t>(r.end)])
               : Text();
  Text out;
  for (std::int64_t i = r.begin; r.step > 0 ? i < r.end : i > r.end; i += r.step)
    append_text(out, slice_text(*t, starts[static_cast<std::size_t>(i)], starts[static_cast<std::size_t>(i) + 1]));
  return out;
}

bool contains(const Value& container, const Value& item) {
  if (const Text* t = container.dict() ? nullptr : container.text_form()) {
    HADAL_CHECK(item.text(), "'in' with a string on the right needs a string on the left, {} came", item.type_name());
    return t->text.find(item.text()->text) != std::string::npos;
  }
  for (const Value& v : iterate(container))
    if (equal(v, item)) return true;
  return false;
}

namespace {

// Without the white space around it and with underscores between digits taken out; empty if they stand elsewhere.
std::string number_text(std::string_view text) {
  const Text stripped = strip(make_text(text, Origin::kUser), "", Side::kBoth);
  std::string out;
  const std::string& t = stripped.text;
  for (std::size_t i = 0; i < t.size(); ++i) {
    if (t[i] != '_') {
      out += t[i];
      continue;
    }
    const auto alphanumeric = [&](std::size_t at) {
      return at < t.size() && std::isalnum(static_cast<unsigned char>(t[at]));
    };
    if (i == 0 || !alphanumeric(i - 1) || !alphanumeric(i + 1)) return "";
  }
  return out;
}

// Python reads the digits of all scripts; here they are an error instead of another result.
void check_ascii(const std::string& text) {
  for (char c : text)
    HADAL_CHECK(static_cast<unsigned char>(c) < 0x80, "a number with digits beyond ASCII is not supported");
}

}  // namespace

std::optional<std::int64_t> python_int(std::string_view given, int base) {
  HADAL_CHECK(base == 0 || (base >= 2 && base <= 36), "int: base {} is not 0 or from 2 to 36", base);
  std::string text = number_text(given);
  check_ascii(text);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.erase(0, 1);
  const auto prefixed = [&](char letter) { return text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == letter; };
  for (const auto& [letter, of] : {std::pair{'x', 16}, {'o', 8}, {'b', 2}})
    if (prefixed(letter) && (base == 0 || base == of)) {
      text.erase(0, 2);
      base = of;
      break;
    }
  if (base == 0 && text.size() > 1 && text[0] == '0' && text.find_first_not_of('0') != text.npos) return std::nullopt;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base == 0 ? 10 : base);
  if (end != text.data() + text.size() || text.empty() || error == std::errc::invalid_argument) return std::nullopt;
  HADAL_CHECK(error == std::errc() && value <= static_cast<std::uint64_t>(INT64_MAX), "int: the number is too large");
  return negative ? -static_cast<std::int64_t>(value) : static_cast<std::int64_t>(value);
}

std::optional<double> python_float(std::string_view given) {
  std::string text = number_text(given);
  check_ascii(text);
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const std::string_view plain = std::string_view(text).substr(text.starts_with('-') || text.starts_with('+') ? 1 : 0);
  const bool word = plain == "inf" || plain == "infinity" || plain == "nan";
  if (plain.empty() || (!word && plain.find_first_not_of("0123456789.e+-") != plain.npos)) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return *end == '\0' ? std::optional(value) : std::nullopt;
}

const Value* ArgumentReader::find(std::size_t i, std::string_view name) const {
  if (i < arguments_.positional.size()) return &arguments_.positional[i];
  for (const auto& [key, value] : arguments_.named)
    if (key == name) return &value;
  return nullptr;
}

void ArgumentReader::allow(std::string_view names) const {
  std::size_t count = 0;
  std::vector<std::string_view> known;
  while (!names.empty()) {
    const std::size_t end = std::min(names.find(' '), names.size());
    known.push_back(names.substr(0, end));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  count = known.size();
  HADAL_CHECK(arguments_.positional.size() <= count, "{} takes {} argument{} here, {} came", function_, count,
              count == 1 ? "" : "s", arguments_.positional.size());
  for (const auto& [key, value] : arguments_.named) {
    const auto it = std::find(known.begin(), known.end(), key);
    HADAL_CHECK(it != known.end(), "{} has no argument '{}' here", function_, key);
    HADAL_CHECK(it - known.begin() >= static_cast<std::ptrdiff_t>(arguments_.positional.size()),
                "{}: argument '{}' came twice", function_, key);
  }
}

const Value& ArgumentReader::need(std::size_t i, std::string_view name) const {
  const Value* v = find(i, name);
  HADAL_CHECK(v, "{} needs an argument '{}'", function_, name);
  return *v;
}

const Text& ArgumentReader::text(std::size_t i, std::string_view name) const {
  const Value& v = need(i, name);
  HADAL_CHECK(v.text(), "{}: argument '{}' is a {}, a string was expected", function_, name, v.type_name());
  return *v.text();
}

std::int64_t ArgumentReader::integer_or(std::size_t i, std::string_view name, std::int64_t otherwise) const {
  const Value* v = find(i, name);
  return v && !v->is_none() ? v->as_integer() : otherwise;
}

bool ArgumentReader::boolean_or(std::size_t i, std::string_view name, bool otherwise) const {
  const Value* v = find(i, name);
  return v ? v->truthy() : otherwise;
}

}  // namespace hadal::tokenizer::jinja
