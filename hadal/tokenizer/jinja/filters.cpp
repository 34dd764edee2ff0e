// What may follow `|`.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "hadal/core/error.h"
#include "hadal/tokenizer/jinja/builtins.h"
#include "hadal/tokenizer/jinja/text_functions.h"

namespace hadal::tokenizer::jinja {
namespace {

using Filter = Value (*)(const Value&, const ArgumentReader&, const Arguments&);

std::int64_t length(const Value& v) {
  if (const Text* t = v.text()) return static_cast<std::int64_t>(character_starts(t->text).size()) - 1;
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
  return out;
}

Value map_filter(const Value& v, const ArgumentReader& in, const Arguments& a) {
  List out;
  const Value* attribute = nullptr;
  const Value* otherwise = nullptr;
  for (const auto& [key, value] : a.named) {
    if (key == "attribute") attribute = &value;
    if (key == "default") otherwise = &value;
  }
  for (const Value& item : iterate(v)) {
    Value mapped =
        attribute ? attribute_of(item, *attribute) : apply_filter(in.text(0, "filter").text, item, rest(a, 1));
    if (mapped.is_undefined() && otherwise) mapped = *otherwise;
    out.push_back(std::move(mapped));
  }
  return out;
}

Value sorted(const Value& v, const ArgumentReader& in, const Arguments&) {
  List list = iterate(v);
  const Value* attribute = in.find(2, "attribute");
  const bool case_sensitive = in.boolean_or(1, "case_sensitive", false);
  const auto key = [&](const Value& item) {
    Value k = attribute && !attribute->is_none() ? attribute_of(item, *attribute) : item;
    return k.text() && !case_sensitive ? Value(lower(*k.text())) : k;
  };
  const bool reverse = in.boolean_or(0, "reverse", false);
  std::stable_sort(list.begin(), list.end(), [&](const Value& a, const Value& b) {
    return reverse ? compare(key(b), key(a)) < 0 : compare(key(a), key(b)) < 0;
  });
  return list;
}

Value dictsort(const Value& v, const ArgumentReader& in, const Arguments&) {
  HADAL_CHECK(v.dict(), "dictsort: a dict was expected, {} came", v.type_name());
  const bool case_sensitive = in.boolean_or(0, "case_sensitive", false);
  const Value* by = in.find(1, "by");
  const bool by_value = by && by->text() && by->text()->text == "value";
  List items;
  for (const auto& [k, value] : *v.dict()) items.push_back(List{k, value});
  const auto key = [&](const Value& item) {
    const Value& k = (*item.list())[by_value ? 1 : 0];
    return k.text() && !case_sensitive ? Value(lower(*k.text())) : k;
  };
  std::stable_sort(items.begin(), items.end(),
                   [&](const Value& a, const Value& b) { return compare(key(a), key(b)) < 0; });
  if (in.boolean_or(2, "reverse", false)) std::reverse(items.begin(), items.end());
  return items;
}

// The transformers library replaces Jinja's own filter: json.dumps with these arguments, not sorted, not escaped.
Value tojson(const Value& v, const ArgumentReader& in, const Arguments&) {
  JsonStyle style;
  const Value* indent_by = in.find(1, "indent");
  if (indent_by && !indent_by->is_none()) {
    style.indent = static_cast<int>(std::clamp<std::int64_t>(indent_by->as_integer(), 0, 64));
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

Value rounded(const Value& v, const ArgumentReader& in, const Arguments&) {
  const std::int64_t digits = std::clamp<std::int64_t>(in.integer_or(0, "precision", 0), -300, 300);
  const Value* method = in.find(1, "method");
  const std::string how = method && method->text() ? method->text()->text : "common";
  const double unit = std::pow(10.0, static_cast<double>(digits));
  const double x = v.number() * unit;
  return (how == "ceil" ? std::ceil(x) : how == "floor" ? std::floor(x) : std::nearbyint(x)) / unit;
}

Value to_integer(const Value& v, const ArgumentReader& in, const Arguments&) {
  const std::int64_t otherwise = in.integer_or(0, "default", 0);
  if (v.is_number())
    return v.floating() ? (std::abs(*v.floating()) < 9e18 ? static_cast<std::int64_t>(*v.floating()) : otherwise)
                        : v.as_integer();
  if (!v.text()) return otherwise;
  const std::string text = strip(*v.text(), "", Side::kBoth).text;
  std::int64_t value = 0;
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return value;
  double d = 0;
  const auto [float_end, float_error] = std::from_chars(begin, text.data() + text.size(), d);
  return float_error == std::errc() && float_end == text.data() + text.size() && std::abs(d) < 9e18
             ? static_cast<std::int64_t>(d)
             : otherwise;
}

Value to_float(const Value& v, const ArgumentReader& in, const Arguments&) {
  if (v.is_number()) return v.number();
  const Value* otherwise = in.find(0, "default");
  const double fallback = otherwise && otherwise->is_number() ? otherwise->number() : 0.0;
  if (!v.text()) return fallback;
  const std::string text = strip(*v.text(), "", Side::kBoth).text;
  double d = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), d);
  return error == std::errc() && end == text.data() + text.size() ? d : fallback;
}

Value unique(const Value& v, const ArgumentReader& in, const Arguments&) {
  const bool case_sensitive = in.boolean_or(0, "case_sensitive", false);
  List out, keys;
  for (const Value& item : iterate(v)) {
    const Value key = item.text() && !case_sensitive ? Value(lower(*item.text())) : item;
    if (std::any_of(keys.begin(), keys.end(), [&](const Value& k) { return equal(k, key); })) continue;
    keys.push_back(key);
    out.push_back(item);
  }
  return out;
}

Value extreme(const Value& v, int sign) {
  const List list = iterate(v);
  if (list.empty()) return Undefined{"the extreme of nothing"};
  const Value* best = &list[0];
  for (const Value& item : list)
    if (compare(item, *best) * sign > 0) best = &item;
  return *best;
}

Value sum(const Value& v, const ArgumentReader& in, const Arguments&) {
  const Value* attribute = in.find(0, "attribute");
  std::int64_t whole = in.integer_or(1, "start", 0);
  double fraction = 0;
  bool floating = false;
  for (const Value& item : iterate(v)) {
    const Value number = attribute && !attribute->is_none() ? attribute_of(item, *attribute) : item;
    if (number.floating())
      floating = true, fraction += *number.floating();
    else
      HADAL_CHECK(!__builtin_add_overflow(whole, number.as_integer(), &whole), "sum: the result is too large");
  }
  return floating ? Value(static_cast<double>(whole) + fraction) : Value(whole);
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
  return list;
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
      {"title", [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return title(to_text(v)); }},
      {"capitalize",
       [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return capitalize(to_text(v)); }},
      {"replace",
       [](const Value& v, const ArgumentReader& in, const Arguments&) -> Value {
         return replace(to_text(v), in.text(0, "old").text, in.text(1, "new"), in.integer_or(2, "count", -1));
       }},
      {"items",
       [](const Value& v, const ArgumentReader&, const Arguments&) -> Value {
         if (v.is_undefined()) return List();
         HADAL_CHECK(v.dict(), "items: a dict was expected, {} came", v.type_name());
         List out;
         for (const auto& [k, value] : *v.dict()) out.push_back(List{k, value});
         return out;
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
         return v.floating() ? Value(std::abs(*v.floating()))
                             : Value(v.as_integer() < 0 ? -v.as_integer() : v.as_integer());
       }},
      {"round", rounded},
      {"indent", indented},
      {"escape",
       [](const Value& v, const ArgumentReader&, const Arguments&) -> Value { return escape_html(to_text(v)); }},
      {"unique", unique},
      {"sort", sorted},
      {"reverse", [](const Value& v, const ArgumentReader&, const Arguments&) { return reversed(v); }},
      {"sum", sum},
      {"min", [](const Value& v, const ArgumentReader&, const Arguments&) { return extreme(v, -1); }},
      {"max", [](const Value& v, const ArgumentReader&, const Arguments&) { return extreme(v, 1); }},
  };
  return table;
}

std::string_view full_name(std::string_view name) {
  if (name == "d") return "default";
  if (name == "count") return "length";
  return name == "e" ? "escape" : name;
}

}  // namespace

bool is_filter(std::string_view name) {
  return filters().find(full_name(name)) != filters().end();
}

Value apply_filter(std::string_view name, const Value& operand, const Arguments& arguments) {
  const auto it = filters().find(full_name(name));
  HADAL_CHECK(it != filters().end(), "filter '{}' is not supported", name);
  return it->second(operand, ArgumentReader(name, arguments), arguments);
}

}  // namespace hadal::tokenizer::jinja
