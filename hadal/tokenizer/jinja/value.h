// Values of a template: what Python would hold, with text that knows where each of its parts came from.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "hadal/tokenizer/prompt.h"

namespace hadal::tokenizer::jinja {

using Text = Prompt;  // characters and their origins

Text make_text(std::string_view characters, Origin origin);
// Bytes [begin, end) with their origins.
Text slice_text(const Text& text, std::size_t begin, std::size_t end);
void append_text(Text& to, const Text& more);

class Value;
struct Undefined {
  std::string name;  // for "'x' is undefined"
};
struct None {};
using List = std::vector<Value>;
using Dict = std::vector<std::pair<Value, Value>>;  // in insertion order
struct Namespace {
  std::vector<std::pair<std::string, Value>> fields;
};
// An integer beyond 64 bits with a sign, as a document may hold one: its digits. It can be printed and compared.
struct BigInteger {
  std::string digits;
};
struct Arguments {
  List positional;
  std::vector<std::pair<std::string, Value>> named;
};
struct Function {
  std::string name;
  std::function<Value(const Arguments&)> call;
};

// What Python would hold where there are several kinds of sequences: all can be walked through, few can be printed.
enum class SequenceKind : unsigned char { kList, kTuple, kRange, kView, kGenerator };

// Immutable but for namespaces, which are shared on purpose. Lists and dicts that are nested too deeply or hold too
// much (each mention counts, as printing would) cannot be made: templates are hostile input, and comparing, printing
// and freeing values recurse.
class Value {
 public:
  using Variant = std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const Text>,
                               std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
                               std::shared_ptr<const Function>, std::shared_ptr<const BigInteger>>;

  Value() : v_(Undefined{}) {}
  Value(None n) : v_(n) {}
  Value(Undefined u) : v_(std::move(u)) {}
  Value(bool b) : v_(b) {}
  Value(std::int64_t i) : v_(i) {}
  Value(double d) : v_(d) {}
  Value(Text t) : v_(std::make_shared<const Text>(std::move(t))) {}
  Value(List l, SequenceKind kind = SequenceKind::kList);
  Value(Dict d);
  Value(std::shared_ptr<Namespace> n) : v_(std::move(n)) {}
  Value(BigInteger i) : v_(std::make_shared<const BigInteger>(std::move(i))) {}
  Value(Function f) : v_(std::make_shared<const Function>(std::move(f))) {}

  bool is_undefined() const { return std::holds_alternative<Undefined>(v_); }
  bool is_none() const { return std::holds_alternative<None>(v_); }
  const bool* boolean() const { return std::get_if<bool>(&v_); }
  const std::int64_t* integer() const { return std::get_if<std::int64_t>(&v_); }
  const double* floating() const { return std::get_if<double>(&v_); }
  bool is_number() const { return boolean() || integer() || floating(); }
  const Text* text() const { return get<std::shared_ptr<const Text>>(); }
  const List* list() const { return get<std::shared_ptr<const List>>(); }
  SequenceKind kind() const { return kind_; }  // of a list
  bool is_tuple() const { return list() && kind_ == SequenceKind::kTuple; }
  bool is_plain_list() const { return list() && kind_ == SequenceKind::kList; }
  const Dict* dict() const { return get<std::shared_ptr<const Dict>>(); }
  Namespace* space() const {
    const auto* p = std::get_if<std::shared_ptr<Namespace>>(&v_);
    return p ? p->get() : nullptr;
  }
  const Function* function() const { return get<std::shared_ptr<const Function>>(); }
  const BigInteger* big_integer() const { return get<std::shared_ptr<const BigInteger>>(); }
  const Undefined* undefined() const { return std::get_if<Undefined>(&v_); }

  bool truthy() const;
  double number() const;                          // of a number; bools count as 0 and 1
  std::int64_t as_integer() const;                // of a bool or an integer
  const char* type_name() const;                  // Python's, for errors
  const Value* find(std::string_view key) const;  // in a dict
  // The same value in the form that some templates expect instead of this one: the JSON text of an object or the object
  // of a JSON text (`arguments` of a tool call), the empty text of none. It serves only where the value itself would be
  // an error or be encoded twice; tests, comparisons and truth are those of the value itself.
  Value with_other_form(Value other) const;
  const Value* other_form() const { return other_.get(); }
  const Text* text_form() const { return text() || !other_ ? text() : other_->text(); }
  const Dict* dict_form() const { return dict() || !other_ ? dict() : other_->dict(); }
  // What walking through it costs, in steps: `weight` all the way down (comparing, printing), `width` at the top alone
  // (copying a list, cutting a text).
  std::size_t weight() const;
  std::size_t width() const;

 private:
  template <class P>
  const typename P::element_type* get() const {
    const auto* p = std::get_if<P>(&v_);
    return p ? p->get() : nullptr;
  }
  void hold(const Value& inner);

  Variant v_;
  std::shared_ptr<const Value> other_;
  std::size_t inner_weight_ = 0;  // of a list or dict
  int depth_ = 0;
  SequenceKind kind_ = SequenceKind::kList;
};

Value tuple_of(List items);
Value generator_of(List items);

bool equal(const Value& a, const Value& b);
// Negative, zero, positive; throws for values that Python cannot order.
int compare(const Value& a, const Value& b);

// str(value): what {{ }} prints. Literals of the template keep their origin, everything else is data.
Text to_text(const Value& value);
std::string repr(const Value& value);

struct JsonStyle {
  bool indented = false;  // otherwise on one line
  std::string indent;     // before each line, once a level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
  bool ensure_ascii = false;
};
std::string to_json(const Value& value, const JsonStyle& style);

// A document as a value; all its text has the given origin.
Value from_json(const nlohmann::ordered_json& json, Origin origin);

}  // namespace hadal::tokenizer::jinja
