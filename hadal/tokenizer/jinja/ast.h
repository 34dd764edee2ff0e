// The syntax tree of a template.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "hadal/tokenizer/jinja/value.h"

namespace hadal::tokenizer::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
};

struct Literal {
  Value value;
};
struct NameExpr {
  std::string name;
};
struct ListExpr {
  std::vector<ExprPtr> items;
  bool is_tuple = false;
};
struct DictExpr {
  std::vector<std::pair<ExprPtr, ExprPtr>> items;
};
struct UnaryExpr {
  std::string op;
  ExprPtr operand;
};
struct BinaryExpr {
  std::string op;
  ExprPtr left, right;
};  // and, or, arithmetic, ~
struct CompareExpr {
  ExprPtr first;
  std::vector<std::pair<std::string, ExprPtr>> rest;
};  // a < b < c; "in", "not in"
struct TestExpr {
  ExprPtr operand;
  std::string test;
  CallArguments arguments;
  bool negated;
};
struct FilterExpr {
  ExprPtr operand;
  std::string filter;
  CallArguments arguments;
};  // no operand inside {% filter %}
struct CallExpr {
  ExprPtr callee;
  CallArguments arguments;
};
struct AttributeExpr {
  ExprPtr object;
  std::string name;
};
struct IndexExpr {
  ExprPtr object, index;
};
struct SliceExpr {
  ExprPtr object, begin, end, step;
};
struct ConditionalExpr {
  ExprPtr condition, then, otherwise;
};

struct Expr {
  int line = 0;
  std::variant<Literal, NameExpr, ListExpr, DictExpr, UnaryExpr, BinaryExpr, CompareExpr, TestExpr, FilterExpr,
               CallExpr, AttributeExpr, IndexExpr, SliceExpr, ConditionalExpr>
      node;
};

struct Stmt;
using Body = std::vector<Stmt>;

struct Data {
  Text text;
};
struct Print {
  ExprPtr value;
};
struct If {
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};
// What a value is given to: a name, or names for its items, which may be such targets again.
struct Target {
  std::string name;
  std::vector<Target> parts;
};
struct For {
  Target target;
  ExprPtr iterable, condition;
  Body body, otherwise;
};
struct Set {
  Target target;
  std::string field;
  ExprPtr value;
};  // field: of a namespace
struct SetBlock {
  std::string target;
  Body body;
  ExprPtr filter;  // or none
};
struct Parameter {
  std::string name;
  ExprPtr otherwise;
};
struct MacroDef {
  std::string name;
  std::vector<Parameter> parameters;
  Body body;
};
struct FilterBlock {
  ExprPtr filter;
  Body body;
};
struct Group {
  Body body;
};  // {% generation %}: transparent
struct Break {};
struct ContinueLoop {};

struct Stmt {
  int line = 0;
  std::variant<Data, Print, If, For, Set, SetBlock, MacroDef, FilterBlock, Group, Break, ContinueLoop> node;
};

}  // namespace hadal::tokenizer::jinja
