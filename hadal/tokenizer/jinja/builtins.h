// The filters, tests and methods that templates may use: Jinja's and Python's, without access to anything but values.
#pragma once

#include <optional>
#include <string_view>

#include "hadal/tokenizer/jinja/value.h"

namespace hadal::tokenizer::jinja {

bool is_filter(std::string_view name);
Value apply_filter(std::string_view name, const Value& operand, const Arguments& arguments);

bool is_test(std::string_view name);
bool test_takes_argument(std::string_view name);  // without parentheses, as in `x is divisibleby 3`
bool apply_test(std::string_view name, const Value& operand, const Arguments& arguments);

// Methods of strings, lists and dicts; undefined if there is no such method.
Value find_method(const Value& object, const std::string& name);

// Shared pieces.
List iterate(const Value& value);                       // what a for loop sees: items, keys, characters
Value get_item(const Value& object, const Value& key);  // object[key], undefined if absent
Value slice(const Value& object, const Value& begin, const Value& end, const Value& step);
bool contains(const Value& container, const Value& item);
std::vector<std::size_t> character_starts(std::string_view text);  // and the end

// int(text, base) and float(text) of Python; nothing if the text is no such number (or an integer of more than 64
// bits).
std::optional<std::int64_t> python_int(std::string_view text, int base);
std::optional<double> python_float(std::string_view text);

// Access to arguments by position or name.
class ArgumentReader {
 public:
  ArgumentReader(std::string_view function, const Arguments& arguments) : function_(function), arguments_(arguments) {}
  // The i-th argument or the one called `name`; nullptr if neither was given.
  const Value* find(std::size_t i, std::string_view name) const;
  // Throws unless what was given are arguments with these names, in this order, separated by spaces.
  void allow(std::string_view names) const;
  const Value& need(std::size_t i, std::string_view name) const;
  const Text& text(std::size_t i, std::string_view name) const;
  std::int64_t integer_or(std::size_t i, std::string_view name, std::int64_t otherwise) const;
  bool boolean_or(std::size_t i, std::string_view name, bool otherwise) const;

 private:
  std::string_view function_;
  const Arguments& arguments_;
};

}  // namespace hadal::tokenizer::jinja
