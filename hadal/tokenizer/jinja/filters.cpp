// What may follow `|`.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <map>

#include "hadal/core/error.h"
#include "hadal/tokenizer/jinja/builtins.h"
#include "hadal/tokenizer/jinja/text_functions.h"

namespace hadal::tokenizer::jinja {
namespace {

using Filter = Value (*)(const Value&, const ArgumentReader&, const Arguments&);

std::int64_t length(const Value& v) {
  if (const Text* t = v.text()) return static_cast<std::int64_t>(character_starts(t->text).size()) - 1;
  HADAL_CHECK(v.kind() != SequenceKind::kGenerator, "a generator has no length; | list makes a list of it");
  HADAL_CHECK(!v.is_none(), "a value of type NoneType has no length");
  return static_cast<std::int64_t>(iterate(v).size());
}

// "a.b" or a position, as map and selectattr take them.
Value attribute_of(Value v, const Value& path) {
  if (!path.text()) return get_item(v, path);
  const std::string& name = path.text()->text;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    const std::string part = name.substr(at, end - at);
    std::int64_t index = 0;
    const bool number = !part.empty() &&
                        std::from_chars(part.data(), part.data() + part.size(), index).ptr == part.data() + part.size();
    v = get_item(v, number && !v.dict() ? Value(index) : Value(make_text(part, Origin::kTemplate)));
    at = end + 1;
  }
  return v;
}

Arguments rest(const Arguments& a, std::size_t from) {
  Arguments out;
  for (std::size_t i = from; i < a.positional.size(); ++i) out.positional.push_back(a.positional[i]);
  return out;
}

// select and reject: by a test, or by truth; with the attribute first for selectattr and rejectattr.
Value choose(const Value& v, const Arguments& a, bool by_attribute, bool keep) {
  List out;
  const std::size_t at = by_attribute ? 1 : 0;
  HADAL_CHECK(!by_attribute || !a.positional.empty(), "selectattr and rejectattr need an attribute");
  for (const Value& item : iterate(v)) {
    const Value subject = by_attribute ? attribute_of(item, a.positional[0]) : item;
    bool holds = subject.truthy();
    if (a.positional.size() > at) {
      HADAL_CHECK(a.positional[at].text(), "select: the name of a test was expected");
      holds = apply_test(a.positional[at].text()->text, subject, rest(a, at + 1));
    }
    if (holds == keep) out.push_back(item);
  }
  return generator_of(std::move(out));
}

Value map_filter(const Value& v, const ArgumentReader& in, const Arguments& a) {
  List out;
  const Value* attribute = nullptr;
  const Value* otherwise = nullptr;
  for (const auto& [key, value] : a.named) {
    HADAL_CHECK(key == "attribute" || (key == "default" && a.positional.empty()), "map: argument '{}' is not supported",
                key);
    (key == "attribute" ? attribute : otherwise) = &value;
  }
  for (const Value& item : iterate(v)) {
    Value mapped =
        attribute ? attribute_of(item, *attribute) : apply_filter(in.text(0, "filter").text, item, rest(a, 1));
    if (mapped.is_undefined() && otherwise) mapped = *otherwise;
    out.push_back(std::move(mapped));
  }
  return generator_of(std::move(out));
}

Value without_case(const Value& v, bool case_sensitive) {
  return v.text() && !case_sensitive ? Value(lower(*v.text())) : v;
}

// What an item is sorted by: itself or its attributes ("a" or "a,b").
List sort_key(const Value& item, const Value* attribute, bool case_sensitive) {
  List key;
  if (!attribute || attribute->is_none()) {
    key.push_back(without_case(item, case_sensitive));
  } else if (!attribute->text()) {
    key.push_back(without_case(attribute_of(item, *attribute), case_sensitive));
  } else {
    for (const Value& name : split(*attribute->text(), ",", -1))
      key.push_back(without_case(attribute_of(item, name), case_sensitive));
  }
  return key;
}

Value sorted(const Value& v, const ArgumentReader& in, const Arguments&) {
  const Value* attribute = in.find(2, "attribute");
  const bool case_sensitive = in.boolean_or(1, "case_sensitive", false), reverse = in.boolean_or(0, "reverse", false);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : iterate(v)) keyed.emplace_back(sort_key(item, attribute, case_sensitive), item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? compare(b.first, a.first) < 0 : compare(a.first, b.first) < 0;
  });
  List list;
  for (auto& [key, item] : keyed) list.push_back(std::move(item));
  return list;
}

Value dictsort(const Value& v, const ArgumentReader& in, const Arguments&) {
  HADAL_CHECK(v.dict_form(), "dictsort: a dict was expected, {} came", v.type_name());
  const bool case_sensitive = in.boolean_or(0, "case_sensitive", false);
  const Value* by = in.find(1, "by");
  const std::string what = by && by->text() ? by->text()->text : "key";
  HADAL_CHECK(what == "key" || what == "value", "dictsort: by is \"{}\", key or value was expected", what);
  const bool by_value = what == "value";
  List items;
  for (const auto& [k, value] : *v.dict_form()) items.push_back(tuple_of({k, value}));
  const auto key = [&](const Value& item) { return without_case((*item.list())[by_value ? 1 : 0], case_sensitive); };
  std::stable_sort(items.begin(), items.end(),
                   [&, reverse = in.boolean_or(2, "reverse", false)](const Value& a, const Value& b) {
                     return reverse ? compare(key(b), key(a)) < 0 : compare(key(a), key(b)) < 0;
                   });
  return items;
}

// The transformers library replaces Jinja's own filter: json.dumps with these arguments, not sorted, not escaped.
Value tojson(const Value& v, const ArgumentReader& in, const Arguments&) {
  JsonStyle style;
  const Value* indent_by = in.find(1, "indent");
  if (indent_by && !indent_by->is_none()) {
    style.indented = true;
    style.indent =
        indent_by->text()
            ? indent_by->text()->text
            : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(indent_by->as_integer(), 0, 64)), ' ');
    style.item_separator = ",";
  }
  const Value* separators = in.find(2, "separators");
  if (separators && !separators->is_none()) {
    HADAL_CHECK(separators->list() && separators->list()->size() == 2, "tojson: separators are not two strings");
    style.item_separator = to_text((*separators->list())[0]).text;
    style.key_separator = to_text((*separators->list())[1]).text;
  }
  style.sort_keys = in.boolean_or(3, "sort_keys", false);
  style.ensure_ascii = in.boolean_or(0, "ensure_ascii", false);
  // Whatever it holds, a document printed as JSON is data.
  return make_text(to_json(v, style), Origin::kUser);
}

// Half to even at a power of ten, of an integer.
std::int64_t rounded_integer(std::int64_t value, std::int64_t digits) {
  if (digits >= 0) return value;
  if (digits < -18) return 0;
  std::int64_t unit = 1;
  for (std::int64_t i = 0; i < -digits; ++i) unit *= 10;
  const std::int64_t rest = std::abs(value % unit), down = value - value % unit;
  const bool up = rest > unit - rest || (rest == unit - rest && (down / unit) % 2 != 0);
  std::int64_t out = down;
  HADAL_CHECK(!up || !__builtin_add_overflow(down, value < 0 ? -unit : unit, &out), "the number is too large");
  return out;
}

// As Python's round: the exact value in binary decides, halves go to the even digit.
double rounded_float(double value, std::int64_t digits) {
  if (!std::isfinite(value) || digits > 300) return value;
  if (digits < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(value / unit) * unit;
  }
  return std::strtod(fmt::format("{:.{}f}", value, static_cast<int>(digits)).c_str(), nullptr);
}

Value rounded(const Value& v, const ArgumentReader& in, const Arguments&) {
  const std::int64_t digits = std::clamp<std::int64_t>(in.integer_or(0, "precision", 0), -300, 300);
  const Value* method = in.find(1, "method");
  const std::string how = method && method->text() ? method->text()->text : "common";
  HADAL_CHECK(how == "common" || how == "ceil" || how == "floor", "round: method {} is not common, ceil or floor", how);
  if (how == "common")
    return v.floating() ? Value(rounded_float(*v.floating(), digits)) : Value(rounded_integer(v.as_integer(), digits));
  const double unit = std::pow(10.0, static_cast<double>(digits));
  const double x = v.number() * unit;
  return (how == "ceil" ? std::ceil(x) : std::floor(x)) / unit;
}

Value to_integer(const Value& v, const ArgumentReader& in, const Arguments&) {
  const Value* given = in.find(0, "default");
  const Value otherwise = given ? *given : Value(std::int64_t{0});
  HADAL_CHECK(!v.is_undefined(), "'{}' is undefined", v.undefined()->name);
  if (v.big_integer()) return v;
  if (v.is_number() && !v.floating()) return v.as_integer();
  std::optional<double> number = v.floating() ? std::optional(*v.floating()) : std::nullopt;
  if (const Text* t = v.text()) {
    if (const auto whole = python_int(t->text, static_cast<int>(in.integer_or(1, "base", 10)))) return *whole;
    number = python_float(t->text);
  }
  if (!number || !std::isfinite(*number)) return otherwise;
  HADAL_CHECK(std::abs(*number) < 9.2e18, "int: the number is too large");
  return static_cast<std::int64_t>(*number);
}

Value to_float(const Value& v, const ArgumentReader& in, const Arguments&) {
  const Value* otherwise = in.find(0, "default");
  HADAL_CHECK(!v.is_undefined(), "'{}' is undefined", v.undefined()->name);
  if (v.is_number()) return v.number();
  const auto number = v.text() ? python_float(v.text()->text) : std::nullopt;
  return number ? Value(*number) : otherwise ? *otherwise : Value(0.0);
}

Value unique(const Value& v, const ArgumentReader& in, const Arguments&) {
  const bool case_sensitive = in.boolean_or(0, "case_sensitive", false);
  const Value* attribute = in.find(1, "attribute");
  List out, keys;
  for (const Value& item : iterate(v)) {
    const Value key =
        without_case(attribute && !attribute->is_none() ? attribute_of(item, *attribute) : item, case_sensitive);
    if (std::any_of(keys.begin(), keys.end(), [&](const Value& k) { return equal(k, key); })) continue;
    keys.push_back(key);
    out.push_back(item);
  }
  return generator_of(std::move(out));
}

Value extreme(const Value& v, const ArgumentReader& in, int sign) {
  const List list = iterate(v);
  if (list.empty()) return Undefined{"the extreme of nothing"};
  const bool case_sensitive = in.boolean_or(0, "case_sensitive", false);
  const Value* attribute = in.find(1, "attribute");
  const auto key = [&](const Value& item) {
    return without_case(attribute && !attribute->is_none() ? attribute_of(item, *attribute) : item, case_sensitive);
  };
  const Value* best = &list[0];
  for (const Value& item : list)
    if (compare(key(item), key(*best)) * sign > 0) best = &item;
  return *best;
}

Value sum(const Value& v, const ArgumentReader& in, const Arguments&) {
  const Value* attribute = in.find(0, "attribute");
  const Value* start = in.find(1, "start");
  Value total = start ? *start : Value(std::int64_t{0});
  for (const Value& item : iterate(v)) {
    const Value number = attribute && !attribute->is_none() ? attribute_of(item, *attribute) : item;
    HADAL_CHECK(number.is_number() && total.is_number(), "sum: {} and {} have no sum", total.type_name(),
                number.type_name());
    std::int64_t whole = 0;
    if (number.floating() || total.floating()) {
      total = total.number() + number.number();
    } else {
      HADAL_CHECK(!__builtin_add_overflow(total.as_integer(), number.as_integer(), &whole),
                  "sum: the result is too large");
      total = whole;
    }
  }
  return total;
}

Value indented(const Value& v, const ArgumentReader& in, const Arguments&) {
  const Value* width = in.find(0, "width");
  const Text margin = width && width->text() ? *width->text()
                                             : make_text(std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(
                                                                         in.integer_or(0, "width", 4), 0, 1000)),
                                                                     ' '),
                                                         Origin::kTemplate);
  return indent(to_text(v), margin, in.boolean_or(1, "first", false), in.boolean_or(2, "blank", false));
}

Value reversed(const Value& v) {
  List list = iterate(v);
  std::reverse(list.begin(), list.end());
  if (v.text()) return join(Text(), list);
  return generator_of(std::move(list));
}

const std::map<std::string, Filter, std::less<>>& filters() {
  static const std::map<std::string, Filter, std::less<>> table = {
      {"default",
       [](const Value& v, const ArgumentReader& in, const Arguments&) -> Value {
         const bool missing = v.is_undefined() || (in.boolean_or(1, "boolean", false) && !v.truthy());
         const Value* otherwise = in.find(0, "default_value");
         return !missing ? v : otherwise ? *otherwise : Value(Text());
       }},
      {"trim",
       [](const Value& v, const ArgumentReader& in, const Arguments&) -> Value {
         const Value* c = in.find(0, "chars");
         return strip(to_text(v), c && c->text() ? c->text()->text : "", Side::kBoth);
       }},
      {"length", [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return length(v); }},
      {"join",
       [](const Value& v, const ArgumentReader& in, const Arguments&) -> Value {
         const Value* d = in.find(0, "d");
         const Value* attribute = in.find(1, "attribute");
         List items = iterate(v);
         if (attribute && !attribute->is_none())
           for (Value& item : items) item = attribute_of(item, *attribute);
         return join(d ? to_text(*d) : Text(), items);
       }},
      {"tojson", tojson},
      {"list", [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return iterate(v); }},
      {"first",
       [](const Value& v, const ArgumentReader&, const Arguments&) -> Value {
         const List l = iterate(v);
         return l.empty() ? Value(Undefined{"first"}) : l.front();
       }},
      {"last",
       [](const Value& v, const ArgumentReader&, const Arguments&) -> Value {
         const List l = iterate(v);
         return l.empty() ? Value(Undefined{"last"}) : l.back();
       }},
      {"upper", [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return upper(to_text(v)); }},
      {"lower", [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return lower(to_text(v)); }},
      {"title",
       [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return title_words(to_text(v)); }},
      {"capitalize",
       [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return capitalize(to_text(v)); }},
      {"replace",
       [](const Value& v, const ArgumentReader& in, const Arguments&) -> Value {
         return replace(to_text(v), to_text(in.need(0, "old")).text, to_text(in.need(1, "new")),
                        in.integer_or(2, "count", -1));
       }},
      {"items",
       [](const Value& v, const ArgumentReader&, const Arguments&) -> Value {
         if (v.is_undefined()) return generator_of({});
         HADAL_CHECK(v.dict_form(), "items: a dict was expected, {} came", v.type_name());
         List out;
         for (const auto& [k, value] : *v.dict_form()) out.push_back(tuple_of({k, value}));
         return generator_of(std::move(out));
       }},
      {"dictsort", dictsort},
      {"map", map_filter},
      {"select", [](const Value& v, const ArgumentReader&, const Arguments& a) { return choose(v, a, false, true); }},
      {"reject", [](const Value& v, const ArgumentReader&, const Arguments& a) { return choose(v, a, false, false); }},
      {"selectattr",
       [](const Value& v, const ArgumentReader&, const Arguments& a) { return choose(v, a, true, true); }},
      {"rejectattr",
       [](const Value& v, const ArgumentReader&, const Arguments& a) { return choose(v, a, true, false); }},
      {"string", [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return to_text(v); }},
      {"safe", [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return to_text(v); }},
      {"int", to_integer},
      {"float", to_float},
      {"abs",
       [](const Value& v, const ArgumentReader&, const Arguments&) -> Value {
         HADAL_CHECK(v.floating() || v.as_integer() != INT64_MIN, "the number is too large");
         return v.floating() ? Value(std::abs(*v.floating())) : Value(std::abs(v.as_integer()));
       }},
      {"round", rounded},
      {"indent", indented},
      {"escape",
       [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return escape_html(to_text(v)); }},
      {"unique", unique},
      {"sort", sorted},
      {"reverse", [](const Value& v, const ArgumentReader&, const Arguments&) { return reversed(v); }},
      {"sum", sum},
      {"min", [](const Value& v, const ArgumentReader& in, const Arguments&) { return extreme(v, in, -1); }},
      {"max", [](const Value& v, const ArgumentReader& in, const Arguments&) { return extreme(v, in, 1); }},
  };
  return table;
}

// Names of the arguments; filters that are not here take none.
const std::map<std::string_view, std::string_view>& filter_signatures() {
  static const std::map<std::string_view, std::string_view> table = {
      {"default", "default_value boolean"},
      {"trim", "chars"},
      {"join", "d attribute"},
      {"tojson", "ensure_ascii indent separators sort_keys"},
      {"replace", "old new count"},
      {"dictsort", "case_sensitive by reverse"},
      {"int", "default base"},
      {"float", "default"},
      {"round", "precision method"},
      {"indent", "width first blank"},
      {"unique", "case_sensitive attribute"},
      {"sort", "reverse case_sensitive attribute"},
      {"sum", "attribute start"},
      {"min", "case_sensitive attribute"},
      {"max", "case_sensitive attribute"},
  };
  return table;
}

// Those that hand arguments on.
bool takes_anything(std::string_view name) {
  for (const char* one : {"map", "select", "reject", "selectattr", "rejectattr"})
    if (name == one) return true;
  return false;
}

std::string_view full_filter_name(std::string_view name) {
  if (name == "d") return "default";
  if (name == "count") return "length";
  return name == "e" ? "escape" : name;
}

}  // namespace

bool is_filter(std::string_view name) {
  return filters().find(full_filter_name(name)) != filters().end();
}

Value apply_filter(std::string_view name, const Value& operand, const Arguments& arguments) {
  const auto it = filters().find(full_filter_name(name));
  HADAL_CHECK(it != filters().end(), "filter '{}' is not supported", name);
  const ArgumentReader in(name, arguments);
  const auto signature = filter_signatures().find(it->first);
  if (!takes_anything(it->first)) in.allow(signature == filter_signatures().end() ? "" : signature->second);
  return it->second(operand, in, arguments);
}

}  // namespace hadal::tokenizer::jinja
