// What may follow `is`.
#include <cmath>
#include <map>

#include "hadal/core/error.h"
#include "hadal/tokenizer/jinja/builtins.h"
#include "hadal/tokenizer/jinja/text_functions.h"

namespace hadal::tokenizer::jinja {
namespace {

using Test = bool (*)(const Value&, const ArgumentReader&);

// The remainder of Python's %, for integers and floats.
double remainder(const Value& v, const Value& by) {
  HADAL_CHECK(v.is_number() && by.is_number(), "{} has no remainder by {}", v.type_name(), by.type_name());
  HADAL_CHECK(by.number() != 0, "divisibleby: division by zero");
  if (!v.floating() && !by.floating())
    return static_cast<double>(by.as_integer() == -1 ? 0 : v.as_integer() % by.as_integer());
  return std::fmod(v.number(), by.number());
}

// The same object, not an equal one: of numbers, the same type too.
bool same(const Value& a, const Value& b) {
  if (std::string_view(a.type_name()) != b.type_name()) return false;
  if (a.list() || b.list()) return a.list() == b.list();
  if (a.dict() || b.dict()) return a.dict() == b.dict();
  return equal(a, b);
}

const std::map<std::string, Test, std::less<>>& tests() {
  static const std::map<std::string, Test, std::less<>> table = {
      {"defined", [](const Value& v, const ArgumentReader&) { return !v.is_undefined(); }},
      {"undefined", [](const Value& v, const ArgumentReader&) { return v.is_undefined(); }},
      {"none", [](const Value& v, const ArgumentReader&) { return v.is_none(); }},
      {"string", [](const Value& v, const ArgumentReader&) { return v.text() != nullptr; }},
      {"mapping", [](const Value& v, const ArgumentReader&) { return v.dict_form() != nullptr; }},
      {"sequence",
       [](const Value& v, const ArgumentReader&) {
         const bool indexed = v.kind() != SequenceKind::kView && v.kind() != SequenceKind::kGenerator;
         return v.text() || (v.list() && indexed) || v.dict() || v.is_undefined();
       }},
      {"iterable",
       [](const Value& v, const ArgumentReader&) { return v.text() || v.list() || v.dict() || v.is_undefined(); }},
      {"number", [](const Value& v, const ArgumentReader&) { return v.is_number() || v.big_integer(); }},
      {"integer", [](const Value& v, const ArgumentReader&) { return v.integer() || v.big_integer(); }},
      {"float", [](const Value& v, const ArgumentReader&) { return v.floating() != nullptr; }},
      {"boolean", [](const Value& v, const ArgumentReader&) { return v.boolean() != nullptr; }},
      {"true", [](const Value& v, const ArgumentReader&) { return v.boolean() && *v.boolean(); }},
      {"false", [](const Value& v, const ArgumentReader&) { return v.boolean() && !*v.boolean(); }},
      {"callable", [](const Value& v, const ArgumentReader&) { return v.function() != nullptr; }},
      {"odd", [](const Value& v, const ArgumentReader&) { return std::abs(remainder(v, std::int64_t{2})) == 1; }},
      {"even", [](const Value& v, const ArgumentReader&) { return remainder(v, std::int64_t{2}) == 0; }},
      {"upper",
       [](const Value& v, const ArgumentReader&) {
         const Text t = to_text(v);
         return upper(t).text == t.text && lower(t).text != t.text;
       }},
      {"lower",
       [](const Value& v, const ArgumentReader&) {
         const Text t = to_text(v);
         return lower(t).text == t.text && upper(t).text != t.text;
       }},
      {"in", [](const Value& v, const ArgumentReader& a) { return contains(a.need(0, "seq"), v); }},
      {"divisibleby", [](const Value& v, const ArgumentReader& a) { return remainder(v, a.need(0, "num")) == 0; }},
      {"eq", [](const Value& v, const ArgumentReader& a) { return equal(v, a.need(0, "other")); }},
      {"equalto", [](const Value& v, const ArgumentReader& a) { return equal(v, a.need(0, "other")); }},
      {"sameas", [](const Value& v, const ArgumentReader& a) { return same(v, a.need(0, "other")); }},
      {"filter", [](const Value& v, const ArgumentReader&) { return v.text() && is_filter(v.text()->text); }},
      {"test", [](const Value& v, const ArgumentReader&) { return v.text() && is_test(v.text()->text); }},
      {"escaped", [](const Value&, const ArgumentReader&) { return false; }},
      {"ne", [](const Value& v, const ArgumentReader& a) { return !equal(v, a.need(0, "other")); }},
      {"lt", [](const Value& v, const ArgumentReader& a) { return compare(v, a.need(0, "other")) < 0; }},
      {"lessthan", [](const Value& v, const ArgumentReader& a) { return compare(v, a.need(0, "other")) < 0; }},
      {"le", [](const Value& v, const ArgumentReader& a) { return compare(v, a.need(0, "other")) <= 0; }},
      {"gt", [](const Value& v, const ArgumentReader& a) { return compare(v, a.need(0, "other")) > 0; }},
      {"greaterthan", [](const Value& v, const ArgumentReader& a) { return compare(v, a.need(0, "other")) > 0; }},
      {"ge", [](const Value& v, const ArgumentReader& a) { return compare(v, a.need(0, "other")) >= 0; }},
  };
  return table;
}

// Operators by which select and its like may call a test.
std::string_view full_test_name(std::string_view name) {
  static const std::map<std::string_view, std::string_view> operators = {{"==", "eq"}, {"!=", "ne"}, {"<", "lt"},
                                                                         {"<=", "le"}, {">", "gt"},  {">=", "ge"}};
  const auto it = operators.find(name);
  return it == operators.end() ? name : it->second;
}

}  // namespace

bool is_test(std::string_view name) {
  return tests().find(full_test_name(name)) != tests().end();
}

bool test_takes_argument(std::string_view name) {
  for (const char* with :
       {"in", "divisibleby", "eq", "equalto", "sameas", "ne", "lt", "lessthan", "le", "gt", "greaterthan", "ge"})
    if (name == with) return true;
  return false;
}

bool apply_test(std::string_view name, const Value& operand, const Arguments& arguments) {
  const auto it = tests().find(full_test_name(name));
  HADAL_CHECK(it != tests().end(), "test '{}' is not supported", name);
  ArgumentReader(name, arguments)
      .allow(test_takes_argument(it->first) ? (it->first == "in"            ? "seq"
                                               : it->first == "divisibleby" ? "num"
                                                                            : "other")
                                            : "");
  return it->second(operand, ArgumentReader(name, arguments));
}

}  // namespace hadal::tokenizer::jinja
