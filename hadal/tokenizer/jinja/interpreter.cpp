#include "hadal/tokenizer/jinja/interpreter.h"

#include <algorithm>
#include <cmath>
#include <ctime>

#include "hadal/core/error.h"
#include "hadal/tokenizer/jinja/builtins.h"
#include "hadal/tokenizer/jinja/text_functions.h"

namespace hadal::tokenizer::jinja {
namespace {

constexpr std::int64_t kMostSteps = 4'000'000;
constexpr std::size_t kLongestOutput = std::size_t{64} << 20;
constexpr std::int64_t kLongestRange = 100'000;
constexpr int kDeepestCall = 100;
constexpr int kDeepestNesting = 1500;  // of expressions and blocks being worked on, calls included

using Scope = std::map<std::string, Value>;
enum class Flow { kNormal, kBreak, kContinue };

// An error that already says where it happened.
class LocatedError : public InvalidRequest {
 public:
  using InvalidRequest::InvalidRequest;
};

Value named_text(std::string_view text) {
  return make_text(text, Origin::kTemplate);
}

Value range_function(const Arguments& a) {
  const ArgumentReader in("range", a);
  const std::int64_t first = in.need(0, "start").as_integer();
  const bool one = a.positional.size() < 2;
  const std::int64_t begin = one ? 0 : first, end = one ? first : a.positional[1].as_integer(),
                     step = in.integer_or(2, "step", 1);
  HADAL_CHECK(step != 0, "range: the step is zero");
  List out;
  for (std::int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
    out.push_back(i);
    HADAL_CHECK(static_cast<std::int64_t>(out.size()) <= kLongestRange, "range: more than {} numbers", kLongestRange);
  }
  return Value(std::move(out), SequenceKind::kRange);
}

Value strftime_function(const Arguments& a) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[256];
  const std::size_t n =
      std::strftime(text, sizeof(text), ArgumentReader("strftime_now", a).text(0, "format").text.c_str(), &local);
  return make_text({text, n}, Origin::kTemplate);
}

std::shared_ptr<Namespace> make_namespace(const Arguments& a) {
  auto space = std::make_shared<Namespace>();
  for (const Value& v : a.positional) {
    HADAL_CHECK(v.dict(), "namespace: a dict was expected, {} came", v.type_name());
    for (const auto& [k, value] : *v.dict()) space->fields.emplace_back(to_text(k).text, value);
  }
  for (const auto& [name, value] : a.named) space->fields.emplace_back(name, value);
  return space;
}

void set_entry(Dict& dict, const Value& key, const Value& value) {
  HADAL_CHECK(!key.dict() && !key.space() && (!key.list() || key.is_tuple()), "a {} cannot be a key", key.type_name());
  for (auto& [existing, old] : dict)
    if (equal(existing, key)) return void(old = value);
  dict.emplace_back(key, value);
}

// Functions of jinja2 that no published template calls.
Value unsupported_function(const std::string& name) {
  return Function{name, [name](const Arguments&) -> Value { fail("function '{}' is not supported", name); }};
}

Value dict_function(const Arguments& a) {
  Dict dict;
  HADAL_CHECK(a.positional.size() <= 1, "dict: one dict or list of pairs was expected");
  if (!a.positional.empty() && a.positional[0].dict()) {
    dict = *a.positional[0].dict();
  } else if (!a.positional.empty()) {
    for (const Value& pair : iterate(a.positional[0])) {
      const List items = iterate(pair);
      HADAL_CHECK(items.size() == 2, "dict: pairs of key and value were expected, {} values came", items.size());
      set_entry(dict, items[0], items[1]);
    }
  }
  for (const auto& [name, value] : a.named) set_entry(dict, named_text(name), value);
  return dict;
}

Scope builtin_functions() {
  return {
      {"range", Function{"range", range_function}},
      {"dict", Function{"dict", dict_function}},
      {"lipsum", unsupported_function("lipsum")},
      {"cycler", unsupported_function("cycler")},
      {"joiner", unsupported_function("joiner")},
      {"self", unsupported_function("self")},
      {"strftime_now", Function{"strftime_now", strftime_function}},
      {"raise_exception", Function{"raise_exception",
                                   [](const Arguments& a) -> Value {
                                     throw InvalidRequest(ArgumentReader("raise_exception", a).text(0, "message").text);
                                   }}},
  };
}

class Interpreter {
 public:
  Interpreter(const std::string& name, Scope variables) : name_(name) {
    scopes_.push_back(builtin_functions());
    scopes_.back()["namespace"] =
        Function{"namespace", [this](const Arguments& a) -> Value { return spaces_.emplace_back(make_namespace(a)); }};
    for (auto& [key, value] : variables) scopes_.back()[key] = std::move(value);
    scopes_.emplace_back();
  }

  // Namespaces may hold themselves or make a chain of any length: emptied one by one, they free nothing recursively.
  ~Interpreter() {
    for (const auto& space : spaces_) space->fields.clear();
  }
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  Text run(const Body& body) {
    execute(body);
    return std::move(out_);
  }

 private:
  // A scope that ends with the block it belongs to.
  struct Block {
    explicit Block(Interpreter& in) : interpreter(in) { in.scopes_.emplace_back(); }
    ~Block() { interpreter.scopes_.pop_back(); }
    Interpreter& interpreter;
  };

  struct Nesting {
    explicit Nesting(Interpreter& in) : interpreter(in) {
      HADAL_CHECK(++in.nesting_ <= kDeepestNesting, "nested too deeply");
    }
    ~Nesting() { --interpreter.nesting_; }
    Interpreter& interpreter;
  };

  void step(std::size_t count = 1) {
    steps_ += static_cast<std::int64_t>(count);
    HADAL_CHECK(steps_ <= kMostSteps, "the template takes more than {} steps", kMostSteps);
  }
  // An operation costs what it walks through: all of its operand, or the top of it alone.
  const Value& paid(const Value& operand) {
    step(operand.weight());
    return operand;
  }
  const Value& paid_top(const Value& operand) {
    step(operand.width());
    return operand;
  }

  void emit(const Text& text) {
    append_text(out_, text);
    HADAL_CHECK(out_.text.size() <= kLongestOutput, "the output is longer than {} bytes", kLongestOutput);
  }

  Flow execute(const Body& body) {
    for (const Stmt& s : body) {
      const Flow flow = execute_located(s);
      if (flow != Flow::kNormal) return flow;
    }
    return Flow::kNormal;
  }

  Flow execute_located(const Stmt& s) {
    try {
      const Nesting nesting(*this);
      step();
      return std::visit([&](const auto& node) { return execute(node); }, s.node);
    } catch (const LocatedError&) {
      throw;
    } catch (const Error& e) {
      throw LocatedError(fmt::format("{}, line {}: {}", name_, s.line, e.what()));
    }
  }

  Flow execute(const Data& d) { return emit(d.text), Flow::kNormal; }
  Flow execute(const Print& p) { return emit(to_text(paid(evaluate(*p.value)))), Flow::kNormal; }
  Flow execute(const Group& g) { return execute(g.body); }
  Flow execute(const Break&) { return Flow::kBreak; }
  Flow execute(const ContinueLoop&) { return Flow::kContinue; }

  Flow execute(const If& node) {
    for (const auto& [condition, body] : node.branches)
      if (evaluate(*condition).truthy()) return execute(body);
    return execute(node.otherwise);
  }

  void assign(const Target& target, const Value& value) {
    if (target.parts.empty()) {
      scopes_.back()[target.name] = value;
      return;
    }
    const List items = iterate(value);
    HADAL_CHECK(items.size() == target.parts.size(), "{} values for {} names", items.size(), target.parts.size());
    for (std::size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i]);
  }

  Flow execute(const Set& node) {
    const Value value = evaluate(*node.value);
    if (node.field.empty()) return assign(node.target, value), Flow::kNormal;
    const Value holder = lookup(node.target.name);
    Namespace* space = holder.space();
    HADAL_CHECK(space, "'{}' is not a namespace, its fields cannot be set", node.target.name);
    for (auto& [name, field] : space->fields)
      if (name == node.field) return field = value, Flow::kNormal;
    space->fields.emplace_back(node.field, value);
    return Flow::kNormal;
  }

  // What a body prints, instead of printing it.
  Text capture(const Body& body) {
    Text outer = std::move(out_);
    out_ = Text();
    execute(body);
    return std::exchange(out_, std::move(outer));
  }

  Flow execute(const SetBlock& node) {
    Text text = capture(node.body);
    if (node.filter) {
      filter_input_ = std::move(text);
      text = to_text(evaluate(*node.filter));
    }
    scopes_.back()[node.target] = std::move(text);
    return Flow::kNormal;
  }

  Flow execute(const FilterBlock& node) {
    filter_input_ = capture(node.body);
    emit(to_text(evaluate(*node.filter)));
    return Flow::kNormal;
  }

  Flow execute(const MacroDef& node) {
    scopes_.back()[node.name] = Function{node.name, [this, &node](const Arguments& a) { return call_macro(node, a); }};
    return Flow::kNormal;
  }

  Value call_macro(const MacroDef& macro, const Arguments& a) {
    HADAL_CHECK(++call_depth_ <= kDeepestCall, "macros call each other more than {} deep", kDeepestCall);
    HADAL_CHECK(a.positional.size() <= macro.parameters.size(), "macro {} takes {} arguments, {} came", macro.name,
                macro.parameters.size(), a.positional.size());
    for (const auto& [name, value] : a.named) {
      const auto known = [&](const Parameter& p) { return p.name == name; };
      HADAL_CHECK(std::any_of(macro.parameters.begin(), macro.parameters.end(), known), "macro {} has no argument '{}'",
                  macro.name, name);
    }
    // A macro sees the template's own variables, not those of its caller.
    std::vector<Scope> outer(scopes_.begin() + 2, scopes_.end());
    scopes_.resize(2);
    scopes_.emplace_back();
    for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
      const Parameter& p = macro.parameters[i];
      const Value* given = ArgumentReader(macro.name, a).find(i, p.name);
      scopes_.back()[p.name] = given ? *given : p.otherwise ? evaluate(*p.otherwise) : Value(Undefined{p.name});
    }
    Text text = capture(macro.body);
    scopes_.resize(2);
    scopes_.insert(scopes_.end(), outer.begin(), outer.end());
    --call_depth_;
    return text;
  }

  Flow execute(const For& node) {
    List items;
    for (Value& item : iterate_or_fail(*node.iterable)) {
      if (node.condition) {
        const Block scope(*this);
        assign(node.target, item);
        if (!evaluate(*node.condition).truthy()) continue;
      }
      items.push_back(std::move(item));
    }
    if (items.empty()) {
      const Block scope(*this);
      return execute(node.otherwise);
    }
    const auto seen = std::make_shared<Value>();
    for (std::size_t i = 0; i < items.size(); ++i) {
      step();
      const Block scope(*this);
      assign(node.target, items[i]);
      scopes_.back()["loop"] = loop_variable(items, i, seen);
      if (execute(node.body) == Flow::kBreak) break;
    }
    return Flow::kNormal;
  }

  List iterate_or_fail(const Expr& e) { return iterate(evaluate(e)); }

  // `seen`: what loop.changed was given last.
  static Value loop_variable(const List& items, std::size_t i, const std::shared_ptr<Value>& seen) {
    const auto n = static_cast<std::int64_t>(items.size()), at = static_cast<std::int64_t>(i);
    const auto cycle = [at](const Arguments& a) -> Value {
      HADAL_CHECK(!a.positional.empty(), "loop.cycle needs values");
      return a.positional[static_cast<std::size_t>(at) % a.positional.size()];
    };
    const auto changed = [seen](const Arguments& a) -> Value {
      const Value now = tuple_of(a.positional);
      const bool differs = !equal(*seen, now);
      *seen = now;
      return differs;
    };
    return Dict{{named_text("index"), at + 1},
                {named_text("index0"), at},
                {named_text("revindex"), n - at},
                {named_text("revindex0"), n - at - 1},
                {named_text("first"), at == 0},
                {named_text("last"), at + 1 == n},
                {named_text("length"), n},
                {named_text("depth"), std::int64_t{1}},
                {named_text("depth0"), std::int64_t{0}},
                {named_text("changed"), Function{"loop.changed", changed}},
                {named_text("previtem"), i > 0 ? items[i - 1] : Value(Undefined{"loop.previtem"})},
                {named_text("nextitem"), i + 1 < items.size() ? items[i + 1] : Value(Undefined{"loop.nextitem"})},
                {named_text("cycle"), Function{"loop.cycle", cycle}}};
  }

  Value lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      const auto it = scope->find(name);
      if (it != scope->end()) return it->second;
    }
    return Undefined{name};
  }

  Value evaluate(const Expr& e) {
    const Nesting nesting(*this);
    step();
    return std::visit([&](const auto& node) { return evaluate(node); }, e.node);
  }

  Value evaluate(const Literal& l) { return l.value; }
  Value evaluate(const NameExpr& n) { return lookup(n.name); }

  Value evaluate(const ListExpr& l) {
    List out;
    for (const ExprPtr& item : l.items) out.push_back(evaluate(*item));
    return l.is_tuple ? tuple_of(std::move(out)) : Value(std::move(out));
  }

  Value evaluate(const DictExpr& d) {
    Dict out;
    for (const auto& [k, v] : d.items) {
      const Value key = evaluate(*k);
      set_entry(out, key, evaluate(*v));
    }
    return out;
  }

  Value evaluate(const UnaryExpr& u) {
    const Value v = evaluate(*u.operand);
    if (u.op == "not") return !v.truthy();
    HADAL_CHECK(v.is_number(), "a {} has no sign", v.type_name());
    if (v.floating()) return u.op == "-" ? -*v.floating() : *v.floating();
    std::int64_t negated = 0;
    HADAL_CHECK(!__builtin_sub_overflow(std::int64_t{0}, v.as_integer(), &negated), "the number is too large");
    return u.op == "-" ? negated : v.as_integer();
  }

  Value evaluate(const BinaryExpr& b) {
    const Value left = evaluate(*b.left);
    if (b.op == "and") return left.truthy() ? evaluate(*b.right) : left;
    if (b.op == "or") return left.truthy() ? left : evaluate(*b.right);
    const Value right = evaluate(*b.right);
    if (b.op == "~") return concatenated(to_text(paid(left)), to_text(paid(right)));
    paid_top(left);
    paid_top(right);
    for (const Value* v : {&left, &right}) HADAL_CHECK(!v->is_undefined(), "'{}' is undefined", v->undefined()->name);
    if (left.text_form() && right.text_form() && b.op == "+")
      return concatenated(*left.text_form(), *right.text_form());
    const bool joinable = (left.is_tuple() && right.is_tuple()) || (left.is_plain_list() && right.is_plain_list());
    if (joinable && b.op == "+") {
      List out = *left.list();
      out.insert(out.end(), right.list()->begin(), right.list()->end());
      HADAL_CHECK(out.size() <= static_cast<std::size_t>(kLongestRange), "a list of {} items is too long", out.size());
      return Value(std::move(out), left.kind());
    }
    if (b.op == "*")
      for (const auto& [what, times] : {std::pair{&left, &right}, {&right, &left}}) {
        if (!times->integer() && !times->boolean()) continue;
        if (what->text()) return paid(repeat(*what->text(), times->as_integer()));
        if (what->is_tuple() || what->is_plain_list()) return repeated(*what, times->as_integer());
      }
    HADAL_CHECK(left.is_number() && right.is_number(), "{} {} {} is not possible", left.type_name(), b.op,
                right.type_name());
    return left.floating() || right.floating() || b.op == "/" ? floating(b.op, left.number(), right.number())
                                                              : integral(b.op, left.as_integer(), right.as_integer());
  }

  static Value repeated(const Value& list, std::int64_t times) {
    const auto size = static_cast<std::int64_t>(list.list()->size());
    HADAL_CHECK(size == 0 || times <= kLongestRange / size, "a list of {} times {} items is too long", times, size);
    List out;
    for (std::int64_t i = 0; i < times && size > 0; ++i)
      out.insert(out.end(), list.list()->begin(), list.list()->end());
    return Value(std::move(out), list.kind());
  }

  static Value concatenated(Text left, const Text& right) {
    append_text(left, right);
    HADAL_CHECK(left.text.size() <= kLongestOutput, "a string of {} bytes is too long", left.text.size());
    return left;
  }

  static Value floating(const std::string& op, double a, double b) {
    if (op == "+") return a + b;
    if (op == "-") return a - b;
    if (op == "*") return a * b;
    if (op == "**") return power_of(a, b);
    HADAL_CHECK(b != 0, "division by zero");
    if (op == "/") return a / b;
    // As Python does: the remainder is exact and has the sign of the divisor.
    double rest = std::fmod(a, b), quotient = (a - rest) / b;
    if (rest != 0 && (rest < 0) != (b < 0)) rest += b, quotient -= 1;
    if (rest == 0) rest = std::copysign(0.0, b);
    if (op == "%") return rest;
    if (quotient == 0) return std::copysign(0.0, a / b);
    const double whole = std::floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
  }

  static double power_of(double a, double b) {
    HADAL_CHECK(a != 0 || b >= 0, "division by zero");
    const double out = std::pow(a, b);
    HADAL_CHECK(std::isfinite(out) || !std::isfinite(a) || !std::isfinite(b), "{} ** {} has no result", a, b);
    return out;
  }

  static Value integral(const std::string& op, std::int64_t a, std::int64_t b) {
    std::int64_t out = 0;
    bool overflow = false;
    if (op == "+")
      overflow = __builtin_add_overflow(a, b, &out);
    else if (op == "-")
      overflow = __builtin_sub_overflow(a, b, &out);
    else if (op == "*")
      overflow = __builtin_mul_overflow(a, b, &out);
    else if (op == "**")
      return power(a, b);
    else
      return floor_division(op, a, b);
    HADAL_CHECK(!overflow, "the number is too large");
    return out;
  }

  static Value floor_division(const std::string& op, std::int64_t a, std::int64_t b) {
    HADAL_CHECK(b != 0, "division by zero");
    if (b == -1) return op == "//" ? integral("-", 0, a) : Value(std::int64_t{0});
    const std::int64_t quotient = a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
    return op == "//" ? quotient : a - quotient * b;
  }

  static Value power(std::int64_t a, std::int64_t b) {
    if (b < 0) return power_of(static_cast<double>(a), static_cast<double>(b));
    HADAL_CHECK(b < 64 || a == 0 || a == 1 || a == -1, "the number is too large");
    std::int64_t out = 1;
    for (std::int64_t i = 0; i < (b >= 64 ? b % 2 + 2 : b); ++i)
      HADAL_CHECK(!__builtin_mul_overflow(out, a, &out), "the number is too large");
    return out;
  }

  static bool holds(const std::string& op, const Value& a, const Value& b) {
    if (op == "==") return equal(a, b);
    if (op == "!=") return !equal(a, b);
    if (op == "in") return contains(b, a);
    if (op == "not in") return !contains(b, a);
    const int c = compare(a, b);
    return op == "<" ? c < 0 : op == "<=" ? c <= 0 : op == ">" ? c > 0 : c >= 0;
  }

  Value evaluate(const CompareExpr& c) {
    Value left = evaluate(*c.first);
    for (const auto& [op, operand] : c.rest) {
      Value right = evaluate(*operand);
      if (!holds(op, paid(left), paid(right))) return false;
      left = std::move(right);
    }
    return true;
  }

  Arguments evaluate(const CallArguments& a) {
    Arguments out;
    for (const ExprPtr& e : a.positional) out.positional.push_back(paid_top(evaluate(*e)));
    for (const auto& [name, e] : a.named) out.named.emplace_back(name, evaluate(*e));
    return out;
  }

  Value evaluate(const TestExpr& t) {
    const Value operand = evaluate(*t.operand);
    // With an argument it compares, otherwise it looks at the type.
    if (!t.arguments.positional.empty()) paid(operand);
    return apply_test(t.test, operand, evaluate(t.arguments)) != t.negated;
  }

  Value evaluate(const FilterExpr& f) {
    const Value operand = f.operand ? evaluate(*f.operand) : Value(filter_input_);
    const bool at_top = f.filter == "length" || f.filter == "count" || f.filter == "first" || f.filter == "last";
    return apply_filter(f.filter, at_top ? paid_top(operand) : paid(operand), evaluate(f.arguments));
  }

  Value evaluate(const CallExpr& c) {
    const Value callee = evaluate(*c.callee);
    if (callee.is_undefined()) fail("'{}' is undefined and cannot be called", callee.undefined()->name);
    HADAL_CHECK(callee.function(), "a {} cannot be called", callee.type_name());
    return callee.function()->call(evaluate(c.arguments));
  }

  // x.name: methods first, as in Python's getattr, then the dict's key.
  Value evaluate(const AttributeExpr& a) {
    const Value object = evaluate(*a.object);
    if (object.is_undefined()) fail("'{}' is undefined, it has no '{}'", object.undefined()->name, a.name);
    if (const Namespace* space = object.space()) {
      for (const auto& [name, value] : space->fields)
        if (name == a.name) return value;
      return Undefined{a.name};
    }
    HADAL_CHECK(!object.function(), "attributes of a function are not supported");
    Value method = find_method(object, a.name);
    if (!method.is_undefined()) return paid_top(object), method;
    const Value* found = object.find(a.name);
    if (!found && object.other_form()) found = object.other_form()->find(a.name);
    return found ? *found : Value(Undefined{a.name});
  }

  Value evaluate(const IndexExpr& i) {
    const Value object = evaluate(*i.object), index = evaluate(*i.index);
    if (object.is_undefined()) fail("'{}' is undefined, it has no {}", object.undefined()->name, repr(index));
    Value item = get_item(object, index);
    if (!item.is_undefined() || !index.text()) return item;
    return find_method(paid_top(object), index.text()->text);
  }

  Value evaluate(const SliceExpr& s) {
    const auto bound = [&](const ExprPtr& e) { return e ? evaluate(*e) : Value(None{}); };
    const Value object = evaluate(*s.object), begin = bound(s.begin), end = bound(s.end);
    return slice(paid_top(object), begin, end, bound(s.step));
  }

  Value evaluate(const ConditionalExpr& c) {
    if (evaluate(*c.condition).truthy()) return evaluate(*c.then);
    return c.otherwise ? evaluate(*c.otherwise) : Value(Undefined{"the inline if without else"});
  }

  const std::string& name_;
  std::vector<Scope> scopes_;  // built-ins and variables, the template's own, then blocks
  Text out_;
  Text filter_input_;
  std::vector<std::shared_ptr<Namespace>> spaces_;
  std::int64_t steps_ = 0;
  int call_depth_ = 0, nesting_ = 0;
};

}  // namespace

Text render(const Body& body, const std::string& name, std::map<std::string, Value> variables) {
  return Interpreter(name, std::move(variables)).run(body);
}

}  // namespace hadal::tokenizer::jinja
