// Methods of Python's strings, lists and dicts, as far as they do not change their object.
#include <map>

#include "hadal/core/error.h"
#include "hadal/tokenizer/jinja/builtins.h"
#include "hadal/tokenizer/jinja/text_functions.h"
#include "hadal/tokenizer/regex.h"

namespace hadal::tokenizer::jinja {
namespace {

using StringMethod = Value (*)(const Text&, const ArgumentReader&);
using ListMethod = Value (*)(const List&, const ArgumentReader&);
using DictMethod = Value (*)(const Dict&, const ArgumentReader&);

std::string characters(const ArgumentReader& a) {
  const Value* v = a.find(0, "chars");
  HADAL_CHECK(!v || v->text() || v->is_none(), "strip: the characters are a {}, a string was expected", v->type_name());
  return v && v->text() ? v->text()->text : std::string();
}

std::string separator(const ArgumentReader& a) {
  const Value* v = a.find(0, "sep");
  if (!v || v->is_none()) return "";
  HADAL_CHECK(v->text() && !v->text()->text.empty(), "split: the separator is not a string with characters in it");
  return v->text()->text;
}

// startswith and endswith take one string or several.
bool any_of_strings(const Value& v, const auto& fits) {
  if (const List* l = v.is_tuple() ? v.list() : nullptr) {
    for (const Value& one : *l)
      if (one.text() && fits(one.text()->text)) return true;
    return false;
  }
  HADAL_CHECK(v.text(), "startswith and endswith need a string, {} came", v.type_name());
  return fits(v.text()->text);
}

std::int64_t position(const Text& t, std::size_t byte) {
  if (byte == std::string::npos) return -1;
  const auto starts = character_starts(std::string_view(t.text).substr(0, byte));
  return static_cast<std::int64_t>(starts.size()) - 1;
}

std::int64_t count_of(const std::string& text, const std::string& what) {
  HADAL_CHECK(!what.empty(), "count: the string to count is empty");
  std::int64_t n = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

// Whether the pattern, which is for one character, fits all of them and there is one.
bool all_fit(const Text& t, const Regex& character) {
  const auto starts = character_starts(t.text);
  Regex::Match m{};
  for (std::size_t i = 0; i + 1 < starts.size(); ++i)
    if (!character.find(std::string_view(t.text).substr(starts[i], starts[i + 1] - starts[i]), 0, m)) return false;
  return !t.text.empty();
}

// Python's digits: decimal ones, superscripts and the like; which of Unicode's other numbers belong to them is not
// known here.
bool is_digits(const Text& t) {
  static const Regex digit(R"(\p{Nd})", "isdigit"), other(R"(\p{No})", "isdigit");
  Regex::Match m{};
  HADAL_CHECK(!other.find(t.text, 0, m), "isdigit: not known for {}", t.text);
  return all_fit(t, digit);
}

bool is_letters(const Text& t) {
  static const Regex letter(R"(\p{L})", "isalpha");
  return all_fit(t, letter);
}

bool has_case(const Text& t, bool upper_case) {
  const Text wanted = upper_case ? upper(t) : lower(t), other = upper_case ? lower(t) : upper(t);
  return wanted.text == t.text && other.text != t.text;
}

// The text before, the separator, the text behind.
Value partition(const Text& t, const Text& separator, bool from_right) {
  HADAL_CHECK(!separator.text.empty(), "partition: the separator is empty");
  const std::size_t at = from_right ? t.text.rfind(separator.text) : t.text.find(separator.text);
  if (at == std::string::npos) return from_right ? tuple_of({Text(), Text(), t}) : tuple_of({t, Text(), Text()});
  const std::size_t end = at + separator.text.size();
  return tuple_of({slice_text(t, 0, at), slice_text(t, at, end), slice_text(t, end, t.text.size())});
}

Value joined(const Text& separator, const Value& items) {
  const List list = iterate(items);
  for (const Value& item : list) HADAL_CHECK(item.text(), "join: a string was expected, {} came", item.type_name());
  return join(separator, list);
}

const std::map<std::string, StringMethod, std::less<>>& string_methods() {
  static const std::map<std::string, StringMethod, std::less<>> methods = {
      {"strip", [](const Text& t, const ArgumentReader& a) -> Value { return strip(t, characters(a), Side::kBoth); }},
      {"lstrip", [](const Text& t, const ArgumentReader& a) -> Value { return strip(t, characters(a), Side::kLeft); }},
      {"rstrip", [](const Text& t, const ArgumentReader& a) -> Value { return strip(t, characters(a), Side::kRight); }},
      {"split",
       [](const Text& t, const ArgumentReader& a) -> Value {
         return split(t, separator(a), a.integer_or(1, "maxsplit", -1));
       }},
      {"rsplit",
       [](const Text& t, const ArgumentReader& a) -> Value {
         const std::string by = separator(a);
         const std::int64_t limit = a.integer_or(1, "maxsplit", -1);
         return by.empty() ? split_at_end(t, limit) : split_from_right(t, by, limit);
       }},
      {"splitlines",
       [](const Text& t, const ArgumentReader& a) -> Value {
         return split_lines(t, a.boolean_or(0, "keepends", false));
       }},
      {"startswith",
       [](const Text& t, const ArgumentReader& a) -> Value {
         return any_of_strings(a.need(0, "prefix"), [&](const std::string& p) { return t.text.starts_with(p); });
       }},
      {"endswith",
       [](const Text& t, const ArgumentReader& a) -> Value {
         return any_of_strings(a.need(0, "suffix"), [&](const std::string& p) { return t.text.ends_with(p); });
       }},
      {"replace",
       [](const Text& t, const ArgumentReader& a) -> Value {
         return replace(t, a.text(0, "old").text, a.text(1, "new"), a.integer_or(2, "count", -1));
       }},
      {"removeprefix",
       [](const Text& t, const ArgumentReader& a) -> Value {
         const auto& p = a.text(0, "prefix").text;
         return t.text.starts_with(p) ? slice_text(t, p.size(), t.text.size()) : t;
       }},
      {"removesuffix",
       [](const Text& t, const ArgumentReader& a) -> Value {
         const auto& p = a.text(0, "suffix").text;
         return t.text.ends_with(p) ? slice_text(t, 0, t.text.size() - p.size()) : t;
       }},
      {"upper", [](const Text& t, const ArgumentReader&) -> Value { return upper(t); }},
      {"lower", [](const Text& t, const ArgumentReader&) -> Value { return lower(t); }},
      {"title", [](const Text& t, const ArgumentReader&) -> Value { return title(t); }},
      {"capitalize", [](const Text& t, const ArgumentReader&) -> Value { return capitalize(t); }},
      {"join", [](const Text& t, const ArgumentReader& a) -> Value { return joined(t, a.need(0, "iterable")); }},
      {"find",
       [](const Text& t, const ArgumentReader& a) -> Value { return position(t, t.text.find(a.text(0, "sub").text)); }},
      {"rfind",
       [](const Text& t, const ArgumentReader& a) -> Value {
         return position(t, t.text.rfind(a.text(0, "sub").text));
       }},
      {"count",
       [](const Text& t, const ArgumentReader& a) -> Value { return count_of(t.text, a.text(0, "sub").text); }},
      {"isdigit", [](const Text& t, const ArgumentReader&) -> Value { return is_digits(t); }},
      {"isalpha", [](const Text& t, const ArgumentReader&) -> Value { return is_letters(t); }},
      {"isupper", [](const Text& t, const ArgumentReader&) -> Value { return has_case(t, true); }},
      {"islower", [](const Text& t, const ArgumentReader&) -> Value { return has_case(t, false); }},
      {"partition", [](const Text& t, const ArgumentReader& a) { return partition(t, a.text(0, "sep"), false); }},
      {"rpartition", [](const Text& t, const ArgumentReader& a) { return partition(t, a.text(0, "sep"), true); }},
      {"isspace",
       [](const Text& t, const ArgumentReader&) -> Value {
         return !t.text.empty() && strip(t, "", Side::kBoth).text.empty();
       }},
  };
  return methods;
}

const std::map<std::string, ListMethod, std::less<>>& list_methods() {
  static const std::map<std::string, ListMethod, std::less<>> methods = {
      {"index",
       [](const List& l, const ArgumentReader& a) -> Value {
         for (std::size_t i = 0; i < l.size(); ++i)
           if (equal(l[i], a.need(0, "value"))) return static_cast<std::int64_t>(i);
         fail("index: {} is not in the list", repr(a.need(0, "value")));
       }},
      {"count",
       [](const List& l, const ArgumentReader& a) -> Value {
         std::int64_t n = 0;
         for (const Value& v : l) n += equal(v, a.need(0, "sub"));
         return n;
       }},
  };
  return methods;
}

const std::map<std::string, DictMethod, std::less<>>& dict_methods() {
  static const std::map<std::string, DictMethod, std::less<>> methods = {
      {"items",
       [](const Dict& d, const ArgumentReader&) -> Value {
         List out;
         for (const auto& [k, v] : d) out.push_back(tuple_of({k, v}));
         return Value(std::move(out), SequenceKind::kView);
       }},
      {"keys",
       [](const Dict& d, const ArgumentReader&) -> Value {
         List out;
         for (const auto& [k, v] : d) out.push_back(k);
         return Value(std::move(out), SequenceKind::kView);
       }},
      {"values",
       [](const Dict& d, const ArgumentReader&) -> Value {
         List out;
         for (const auto& [k, v] : d) out.push_back(v);
         return Value(std::move(out), SequenceKind::kView);
       }},
      {"get",
       [](const Dict& d, const ArgumentReader& a) -> Value {
         for (const auto& [k, v] : d)
           if (equal(k, a.need(0, "key"))) return v;
         const Value* otherwise = a.find(1, "default");
         return otherwise ? *otherwise : Value(None{});
       }},
      {"copy", [](const Dict& d, const ArgumentReader&) -> Value { return d; }},
  };
  return methods;
}

// Names of the arguments; methods that are not here take none.
const std::map<std::string, std::string_view, std::less<>>& method_signatures() {
  static const std::map<std::string, std::string_view, std::less<>> table = {
      {"strip", "chars"},
      {"lstrip", "chars"},
      {"rstrip", "chars"},
      {"split", "sep maxsplit"},
      {"rsplit", "sep maxsplit"},
      {"splitlines", "keepends"},
      {"startswith", "prefix"},
      {"endswith", "suffix"},
      {"replace", "old new count"},
      {"removeprefix", "prefix"},
      {"removesuffix", "suffix"},
      {"join", "iterable"},
      {"find", "sub"},
      {"rfind", "sub"},
      {"count", "sub"},
      {"partition", "sep"},
      {"rpartition", "sep"},
      {"index", "value"},
      {"get", "key default"},
  };
  return table;
}

template <class Object, class Method>
Value bound(const Object& object, const std::string& name, Method method) {
  return Function{name, [object, name, method](const Arguments& a) {
                    const ArgumentReader in(name, a);
                    const auto it = method_signatures().find(name);
                    in.allow(it == method_signatures().end() ? "" : it->second);
                    return method(object, in);
                  }};
}

}  // namespace

Value find_method(const Value& object, const std::string& name) {
  if (const Text* t = object.text()) {
    const auto it = string_methods().find(name);
    if (it != string_methods().end()) return bound(*t, name, it->second);
  } else if (const List* l = object.is_tuple() || object.is_plain_list() ? object.list() : nullptr) {
    const auto it = list_methods().find(name);
    if (it != list_methods().end()) return bound(*l, name, it->second);
  } else if (const Dict* d = object.dict()) {
    const auto it = dict_methods().find(name);
    if (it != dict_methods().end()) return bound(*d, name, it->second);
  }
  return object.other_form() ? find_method(*object.other_form(), name) : Value(Undefined{name});
}

}  // namespace hadal::tokenizer::jinja
