#include "hadal/tokenizer/jinja/parser.h"

#include <charconv>
#include <cstdlib>
#include <initializer_list>

#include "hadal/core/error.h"
#include "hadal/tokenizer/jinja/builtins.h"
#include "hadal/tokenizer/jinja/lexer.h"

namespace hadal::tokenizer::jinja {
namespace {

// A template is hostile input: bounds on nested expressions and blocks, and on operators in a row (a + b + c, x.y.z),
// which make a tree as deep as the row is long.
constexpr int kDeepestSyntax = 100;
constexpr int kLongestRow = 1000;

using Kind = Token::Kind;

class Parser {
 public:
  Parser(std::vector<Token> tokens, const std::string& name) : tokens_(std::move(tokens)), name_(name) {}

  Body run() {
    Body body = block({});
    if (peek().kind != Kind::kEnd) fail_here("unexpected end of a block");
    return body;
  }

 private:
  struct Depth {
    explicit Depth(Parser& p) : parser(p) {
      if (++parser.depth_ > kDeepestSyntax) parser.fail_here("nested too deeply");
    }
    ~Depth() { --parser.depth_; }
    Parser& parser;
  };

  // One more operator in a row; rows of one whole expression count together.
  void link() {
    if (++links_ > kLongestRow)
      fail_here("an expression has more than " + std::to_string(kLongestRow) + " operators in a row");
  }
  const Token& peek(std::size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  [[noreturn]] void fail_here(const std::string& what) const { fail("{}, line {}: {}", name_, peek().line, what); }
  bool is(Kind kind, std::string_view text) const { return peek().kind == kind && peek().text == text; }
  bool is_op(std::string_view text) const { return is(Kind::kOperator, text); }
  bool is_name(std::string_view text) const { return is(Kind::kName, text); }
  bool accept_op(std::string_view text) { return is_op(text) && (take(), true); }
  bool accept_name(std::string_view text) { return is_name(text) && (take(), true); }
  void expect_op(std::string_view text) {
    if (!accept_op(text)) fail_here("'" + std::string(text) + "' was expected" + found());
  }
  std::string found() const { return peek().text.empty() ? std::string() : ", '" + peek().text + "' came"; }
  std::string name() {
    if (peek().kind != Kind::kName) fail_here("a name was expected" + found());
    return take().text;
  }
  void end_tag() {
    if (peek().kind != Kind::kTagEnd) fail_here("the end of the tag was expected" + found());
    take();
  }
  ExprPtr make(int line, auto node) {
    auto e = std::make_unique<Expr>();
    e->line = line;
    e->node = std::move(node);
    return e;
  }

  // Statements up to a tag whose name is one of `ends`; that name has been taken then, its tag not yet closed.
  Body block(std::initializer_list<std::string_view> ends) {
    const Depth depth(*this);
    Body body;
    for (;;) {
      const int line = peek().line;
      links_ = 0;
      if (peek().kind == Kind::kData) {
        body.push_back({line, Data{make_text(take().text, Origin::kTemplate)}});
      } else if (peek().kind == Kind::kPrintBegin) {
        take();
        body.push_back({line, Print{tuple()}});
        if (peek().kind != Kind::kPrintEnd) fail_here("the end of the expression was expected" + found());
        take();
      } else if (peek().kind == Kind::kTagBegin) {
        take();
        for (std::string_view end : ends)
          if (accept_name(end)) {
            ended_ = end;
            return body;
          }
        body.push_back(statement(line));
      } else {
        if (ends.size() > 0) fail_here("'" + std::string(*ends.begin()) + "' is missing");
        return body;
      }
    }
  }

  Stmt statement(int line) {
    const std::string keyword = name();
    if (keyword == "if") return {line, if_statement()};
    if (keyword == "for") return {line, for_statement()};
    if (keyword == "set") return set_statement(line);
    if (keyword == "macro") return {line, macro_statement()};
    if (keyword == "generation") {
      end_tag();
      Group group{block({"endgeneration"})};
      end_tag();
      return {line, std::move(group)};
    }
    if (keyword == "filter") {
      FilterBlock f{filters(nullptr, name()), {}};
      end_tag();
      f.body = block({"endfilter"});
      end_tag();
      return {line, std::move(f)};
    }
    if (keyword == "break" || keyword == "continue") {
      if (loops_ == 0) fail_here("'" + keyword + "' outside a loop");
      end_tag();
      if (keyword == "break") return {line, Break{}};
      return {line, ContinueLoop{}};
    }
    --at_;
    fail_here("tag '" + keyword + "' is not supported");
  }

  If if_statement() {
    If node;
    ExprPtr condition = expression();
    for (;;) {
      end_tag();
      Body body = block({"endif", "elif", "else"});
      const std::string_view end = ended_;
      node.branches.emplace_back(std::move(condition), std::move(body));
      if (end == "elif") {
        condition = expression();
        continue;
      }
      end_tag();
      if (end == "else") {
        node.otherwise = block({"endif"});
        end_tag();
      }
      return node;
    }
  }

  // a, or a, b, or a, (b, c)
  Target target() {
    const Depth depth(*this);
    std::vector<Target> parts;
    bool tuple = false;
    do {
      if (!parts.empty() && peek().kind != Kind::kName && !is_op("(")) break;  // a comma at the end
      if (accept_op("(")) {
        parts.push_back(target());
        expect_op(")");
      } else {
        parts.push_back({name(), {}});
      }
    } while (accept_op(",") && (tuple = true));
    if (parts.size() == 1 && !tuple) return std::move(parts[0]);
    return {"", std::move(parts)};
  }

  For for_statement() {
    For node;
    node.target = target();
    if (!accept_name("in")) fail_here("'in' was expected" + found());
    node.iterable = tuple(false);
    if (accept_name("if")) node.condition = expression();
    if (is_name("recursive")) fail_here("recursive loops are not supported");
    end_tag();
    ++loops_;
    node.body = block({"endfor", "else"});
    --loops_;
    const bool has_else = ended_ == "else";
    end_tag();
    if (has_else) {
      node.otherwise = block({"endfor"});
      end_tag();
    }
    return node;
  }

  Stmt set_statement(int line) {
    Set node;
    node.target = target();
    const bool single = node.target.parts.empty();
    if (single && accept_op(".")) node.field = name();
    if (accept_op("=")) {
      node.value = tuple();
      end_tag();
      return {line, std::move(node)};
    }
    if (!single || !node.field.empty()) fail_here("'=' was expected" + found());
    SetBlock whole{node.target.name, {}, nullptr};
    if (accept_op("|")) whole.filter = filters(nullptr, name());
    end_tag();
    whole.body = block({"endset"});
    end_tag();
    return {line, std::move(whole)};
  }

  MacroDef macro_statement() {
    MacroDef node{name(), {}, {}};
    expect_op("(");
    while (!accept_op(")")) {
      Parameter p{name(), nullptr};
      if (accept_op("=")) p.otherwise = expression();
      node.parameters.push_back(std::move(p));
      if (!is_op(")")) expect_op(",");
    }
    end_tag();
    const int outer = std::exchange(loops_, 0);
    node.body = block({"endmacro"});
    loops_ = outer;
    end_tag();
    return node;
  }

  // An expression, or several with commas between them: a tuple.
  ExprPtr tuple(bool with_condition = true) {
    const int line = peek().line;
    ExprPtr first = with_condition ? expression() : or_expression();
    if (!is_op(",")) return first;
    ListExpr list;
    list.is_tuple = true;
    list.items.push_back(std::move(first));
    while (accept_op(",")) {
      if (peek().kind == Kind::kPrintEnd || peek().kind == Kind::kTagEnd || is_op(")")) break;
      list.items.push_back(with_condition ? expression() : or_expression());
    }
    return make(line, std::move(list));
  }

  ExprPtr expression() {
    const Depth depth(*this);
    const int line = peek().line;
    ExprPtr value = or_expression();
    while (accept_name("if")) {
      link();
      ConditionalExpr c{or_expression(), std::move(value), nullptr};
      if (accept_name("else")) c.otherwise = expression();
      value = make(line, std::move(c));
    }
    return value;
  }

  ExprPtr or_expression() {
    ExprPtr left = and_expression();
    while (is_name("or")) {
      link();
      const int line = take().line;
      left = make(line, BinaryExpr{"or", std::move(left), and_expression()});
    }
    return left;
  }

  ExprPtr and_expression() {
    ExprPtr left = not_expression();
    while (is_name("and")) {
      link();
      const int line = take().line;
      left = make(line, BinaryExpr{"and", std::move(left), not_expression()});
    }
    return left;
  }

  ExprPtr not_expression() {
    if (!is_name("not")) return comparison();
    const Depth depth(*this);
    const int line = take().line;
    return make(line, UnaryExpr{"not", not_expression()});
  }

  bool comparison_operator(std::string& op) {
    for (const char* o : {"==", "!=", "<", "<=", ">", ">="})
      if (accept_op(o)) return op = o, true;
    if (accept_name("in")) return op = "in", true;
    if (is_name("not") && peek(1).kind == Kind::kName && peek(1).text == "in") {
      take();
      take();
      return op = "not in", true;
    }
    return false;
  }

  ExprPtr comparison() {
    const int line = peek().line;
    ExprPtr first = sum();
    CompareExpr c{nullptr, {}};
    std::string op;
    while (comparison_operator(op)) {
      ExprPtr right = sum();
      c.rest.emplace_back(op, std::move(right));
    }
    if (c.rest.empty()) return first;
    c.first = std::move(first);
    return make(line, std::move(c));
  }

  ExprPtr left_to_right(std::initializer_list<std::string_view> ops, ExprPtr (Parser::*next)()) {
    ExprPtr left = (this->*next)();
    for (;;) {
      bool found_one = false;
      for (std::string_view op : ops)
        if (is_op(op)) {
          link();
          const int line = take().line;
          left = make(line, BinaryExpr{std::string(op), std::move(left), (this->*next)()});
          found_one = true;
          break;
        }
      if (!found_one) return left;
    }
  }
  // In Jinja ~ binds tighter than + and -, and looser than *.
  ExprPtr sum() { return left_to_right({"+", "-"}, &Parser::concatenation); }
  ExprPtr concatenation() { return left_to_right({"~"}, &Parser::product); }
  ExprPtr product() { return left_to_right({"*", "//", "/", "%"}, &Parser::power); }
  ExprPtr power() { return left_to_right({"**"}, &Parser::unary); }

  // Filters and tests belong to the signed operand as a whole.
  ExprPtr unary() { return postfix_filters(signed_operand()); }
  ExprPtr signed_operand() {
    const Depth depth(*this);
    if (!is_op("-") && !is_op("+")) return postfix(primary());
    const Token op = take();
    return make(op.line, UnaryExpr{op.text, signed_operand()});
  }

  ExprPtr primary() {
    const Token t = peek();
    switch (t.kind) {
      case Kind::kString: {
        std::string text = take().text;
        while (peek().kind == Kind::kString) text += take().text;  // neighbours are joined
        return make(t.line, Literal{make_text(text, Origin::kTemplate)});
      }
      case Kind::kInteger:
        take();
        return make(t.line, Literal{integer(t)});
      case Kind::kFloat:
        take();
        return make(t.line, Literal{std::strtod(t.text.c_str(), nullptr)});
      case Kind::kName:
        take();
        return make(t.line, constant_or_name(t.text));
      default:
        break;
    }
    if (accept_op("(")) return parenthesis(t.line);
    if (accept_op("[")) {
      ListExpr list;
      while (!accept_op("]")) {
        list.items.push_back(expression());
        if (!is_op("]")) expect_op(",");
      }
      return make(t.line, std::move(list));
    }
    if (accept_op("{")) {
      DictExpr dict;
      while (!accept_op("}")) {
        ExprPtr key = expression();
        expect_op(":");
        dict.items.emplace_back(std::move(key), expression());
        if (!is_op("}")) expect_op(",");
      }
      return make(t.line, std::move(dict));
    }
    fail_here("an expression was expected" + found());
  }

  ExprPtr parenthesis(int line) {
    if (accept_op(")")) return make(line, ListExpr{{}, true});
    ExprPtr inner = tuple();
    expect_op(")");
    return inner;
  }

  Value integer(const Token& t) const {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(t.text.data(), t.text.data() + t.text.size(), value);
    if (error != std::errc() || end != t.text.data() + t.text.size()) fail_here("number " + t.text + " is too large");
    return value;
  }

  static decltype(Expr::node) constant_or_name(const std::string& name) {
    if (name == "true" || name == "True") return Literal{true};
    if (name == "false" || name == "False") return Literal{false};
    if (name == "none" || name == "None") return Literal{None{}};
    return NameExpr{name};
  }

  ExprPtr postfix(ExprPtr value) {
    for (;; link()) {
      const int line = peek().line;
      if (accept_op(".")) {
        if (peek().kind == Kind::kInteger)
          value = make(line, IndexExpr{std::move(value), make(line, Literal{integer(take())})});
        else
          value = make(line, AttributeExpr{std::move(value), name()});
      } else if (accept_op("[")) {
        value = subscript(std::move(value), line);
      } else if (accept_op("(")) {
        value = make(line, CallExpr{std::move(value), arguments()});
      } else {
        return value;
      }
    }
  }

  ExprPtr subscript(ExprPtr object, int line) {
    ExprPtr begin, end, step;
    if (!is_op(":")) begin = expression();
    if (accept_op("]")) return make(line, IndexExpr{std::move(object), std::move(begin)});
    expect_op(":");
    if (!is_op(":") && !is_op("]")) end = expression();
    if (accept_op(":") && !is_op("]")) step = expression();
    expect_op("]");
    return make(line, SliceExpr{std::move(object), std::move(begin), std::move(end), std::move(step)});
  }

  CallArguments arguments() {
    CallArguments out;
    while (!accept_op(")")) {
      if (peek().kind == Kind::kName && peek(1).kind == Kind::kOperator && peek(1).text == "=") {
        const std::string key = name();
        take();
        out.named.emplace_back(key, expression());
      } else {
        if (is_op("*") || is_op("**")) fail_here("argument unpacking is not supported");
        if (!out.named.empty()) fail_here("a positional argument follows a named one");
        out.positional.push_back(expression());
      }
      if (!is_op(")")) expect_op(",");
    }
    return out;
  }

  ExprPtr filters(ExprPtr operand, std::string first) {
    ExprPtr value = filter(std::move(operand), std::move(first));
    for (; accept_op("|"); link()) value = filter(std::move(value), name());
    return value;
  }

  ExprPtr filter(ExprPtr operand, std::string filter) {
    const int line = peek().line;
    FilterExpr node{std::move(operand), std::move(filter), {}};
    if (accept_op("(")) node.arguments = arguments();
    return make(line, std::move(node));
  }

  // Filters and tests after an operand, and what may follow them.
  ExprPtr postfix_filters(ExprPtr value) {
    for (;; link()) {
      if (accept_op("|"))
        value = filters(std::move(value), name());
      else if (is_name("is"))
        value = test(std::move(value));
      else if (is_op("(") || is_op(".") || is_op("["))
        value = postfix(std::move(value));
      else
        return value;
    }
  }

  // Whether what follows could be the argument of a test that is not known here.
  bool begins_operand() const {
    const Token& t = peek();
    if (t.kind == Kind::kName) {
      for (const char* keyword : {"else", "or", "and", "if", "is", "not", "in"})
        if (t.text == keyword) return false;
      return true;
    }
    return t.kind == Kind::kInteger || t.kind == Kind::kFloat || t.kind == Kind::kString || is_op("[") || is_op("{");
  }

  ExprPtr test(ExprPtr operand) {
    const int line = take().line;
    const bool negated = accept_name("not");
    TestExpr node{std::move(operand), name(), {}, negated};
    if (accept_op("(")) {
      node.arguments = arguments();
    } else if (is_test(node.test) ? test_takes_argument(node.test) : begins_operand()) {
      node.arguments.positional.push_back(postfix(primary()));
    }
    return make(line, std::move(node));
  }

  std::vector<Token> tokens_;
  const std::string& name_;
  std::size_t at_ = 0;
  std::string_view ended_;
  int depth_ = 0, links_ = 0;
  int loops_ = 0;
};

}  // namespace

Body parse(std::string_view source, const std::string& name) {
  return Parser(tokenize(source, name), name).run();
}

}  // namespace hadal::tokenizer::jinja
