// Odd expressions beside jinja2 (tools/make_jinja_vectors.py): what Hadal prints is what jinja2 prints; what jinja2
// refuses Hadal refuses; what Hadal alone refuses is an error, never another text.
#include <gtest/gtest.h>

#include <fstream>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/tokenizer/jinja/interpreter.h"
#include "hadal/tokenizer/jinja/parser.h"

namespace hadal::tokenizer::jinja {
namespace {

struct Outcome {
  bool failed;
  std::string text;  // or the error
};

Outcome outcome(const std::string& source, const io::Json& values) {
  std::map<std::string, Value> variables;
  for (const auto& [key, value] : values.items()) variables[key] = from_json(value, Origin::kUser);
  try {
    return {false, render(parse(source, "test"), "test", variables).text};
  } catch (const Error& e) {
    return {true, e.what()};
  }
}

TEST(JinjaExpressions, PrintWhatJinja2PrintsOrAreRefused) {
  std::ifstream in(HADAL_TEST_DATA "/chat/jinja_expressions.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(in, line));
  const io::Json values = io::Json::parse(line)["values"];
  int rows = 0, refused = 0;
  for (; std::getline(in, line); ++rows) {
    const io::Json row = io::Json::parse(line);
    const Outcome got = outcome(row["source"], values);
    if (row.contains("error"))
      EXPECT_TRUE(got.failed) << row["source"] << "\n  jinja2: " << row["error"] << "\n  here: " << got.text;
    else if (got.failed)
      ++refused;
    else
      EXPECT_EQ(got.text, row["text"].get<std::string>()) << row["source"];
  }
  EXPECT_GE(rows, 800);
  EXPECT_LE(refused, 87);  // filters and methods that no published template uses
}

}  // namespace
}  // namespace hadal::tokenizer::jinja
