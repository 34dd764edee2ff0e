// What may follow `is`.
#include <map>

#include "hadal/core/error.h"
#include "hadal/tokenizer/jinja/builtins.h"
#include "hadal/tokenizer/jinja/text_functions.h"

namespace hadal::tokenizer::jinja {
namespace {

using Test = bool (*)(const Value&, const ArgumentReader&);

bool odd(const Value& v) {
  return v.as_integer() % 2 != 0;
}

const std::map<std::string, Test, std::less<>>& tests() {
  static const std::map<std::string, Test, std::less<>> table = {
      {"defined", [](const Value& v, const ArgumentReader&) { return !v.is_undefined(); }},
      {"undefined", [](const Value& v, const ArgumentReader&) { return v.is_undefined(); }},
      {"none", [](const Value& v, const ArgumentReader&) { return v.is_none(); }},
      {"string", [](const Value& v, const ArgumentReader&) { return v.text() != nullptr; }},
      {"mapping", [](const Value& v, const ArgumentReader&) { return v.dict() != nullptr; }},
      {"sequence",
       [](const Value& v, const ArgumentReader&) { return v.text() || v.list() || v.dict() || v.is_undefined(); }},
      {"iterable",
       [](const Value& v, const ArgumentReader&) { return v.text() || v.list() || v.dict() || v.is_undefined(); }},
      {"number", [](const Value& v, const ArgumentReader&) { return v.is_number(); }},
      {"integer", [](const Value& v, const ArgumentReader&) { return v.integer() != nullptr; }},
      {"float", [](const Value& v, const ArgumentReader&) { return v.floating() != nullptr; }},
      {"boolean", [](const Value& v, const ArgumentReader&) { return v.boolean() != nullptr; }},
      {"true", [](const Value& v, const ArgumentReader&) { return v.boolean() && *v.boolean(); }},
      {"false", [](const Value& v, const ArgumentReader&) { return v.boolean() && !*v.boolean(); }},
      {"callable", [](const Value& v, const ArgumentReader&) { return v.function() != nullptr; }},
      {"odd", [](const Value& v, const ArgumentReader&) { return odd(v); }},
      {"even", [](const Value& v, const ArgumentReader&) { return !odd(v); }},
      {"upper",
       [](const Value& v, const ArgumentReader&) {
         return v.text() && upper(*v.text()).text == v.text()->text && lower(*v.text()).text != v.text()->text;
       }},
      {"lower",
       [](const Value& v, const ArgumentReader&) {
         return v.text() && lower(*v.text()).text == v.text()->text && upper(*v.text()).text != v.text()->text;
       }},
      {"in", [](const Value& v, const ArgumentReader& a) { return contains(a.need(0, "seq"), v); }},
      {"divisibleby",
       [](const Value& v, const ArgumentReader& a) {
         const std::int64_t by = a.need(0, "num").as_integer();
         HADAL_CHECK(by != 0, "divisibleby: division by zero");
         return v.as_integer() % by == 0;
       }},
      {"eq", [](const Value& v, const ArgumentReader& a) { return equal(v, a.need(0, "other")); }},
      {"equalto", [](const Value& v, const ArgumentReader& a) { return equal(v, a.need(0, "other")); }},
      {"sameas", [](const Value& v, const ArgumentReader& a) { return equal(v, a.need(0, "other")); }},
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

}  // namespace

bool is_test(std::string_view name) {
  return tests().find(name) != tests().end();
}

bool test_takes_argument(std::string_view name) {
  for (const char* with :
       {"in", "divisibleby", "eq", "equalto", "sameas", "ne", "lt", "lessthan", "le", "gt", "greaterthan", "ge"})
    if (name == with) return true;
  return false;
}

bool apply_test(std::string_view name, const Value& operand, const Arguments& arguments) {
  const auto it = tests().find(name);
  HADAL_CHECK(it != tests().end(), "test '{}' is not supported", name);
  return it->second(operand, ArgumentReader(name, arguments));
}

}  // namespace hadal::tokenizer::jinja
