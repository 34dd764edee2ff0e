#include "hadal/grammar/structured.h"

#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "hadal/core/error.h"
#include "hadal/grammar/lark.h"

namespace hadal::grammar {
namespace structured_test {
namespace {

using Kind = GrammarText::Kind;
using testing::HasSubstr;

constexpr TokenId kWord = 256, kCall = 258, kEnd = 259, kOtherEnd = 260, kEmpty = 261, kCount = 262;

// All bytes, two words, a control token, two end tokens and an id without a token.
const GrammarCompiler& compiler() {
  static const GrammarCompiler made = [] {
    static std::vector<std::string> texts;
    for (int i = 0; i < 256; ++i) texts.emplace_back(1, static_cast<char>(i));
    for (const char* text : {"name", "\": ", "<call>", "<end>", "<eot>", ""}) texts.emplace_back(text);
    std::vector<TokenText> tokens;
    for (std::size_t i = 0; i < texts.size(); ++i) tokens.push_back({texts[i], i >= kCall});
    const std::vector<TokenId> ends = {kEnd, kOtherEnd};
    return GrammarCompiler(tokens, ends);
  }();
  return made;
}

bool allows(const std::vector<std::uint32_t>& allowed, TokenId token) {
  return (allowed[static_cast<std::size_t>(token / 32)] >> (token % 32) & 1) != 0;
}

std::vector<std::uint32_t> mask_of(TokenConstraint& c) {
  std::vector<std::uint32_t> allowed(16, ~0u);
  EXPECT_TRUE(c.mask(allowed));
  return allowed;
}

enum class Taken { kNo, kBegins, kWhole };

// Byte by byte.
Taken takes(TokenConstraint& c, std::string_view text) {
  for (const char byte : text) {
    const auto token = static_cast<TokenId>(static_cast<unsigned char>(byte));
    if (c.complete() || !allows(mask_of(c), token)) return Taken::kNo;
    c.accept(token);
  }
  return c.complete() || allows(mask_of(c), kEnd) ? Taken::kWhole : Taken::kBegins;
}

Taken takes(const GrammarText& grammar, std::string_view text) {
  return takes(*compiler().compile(grammar), text);
}

std::string refusal(const GrammarText& grammar) {
  try {
    compiler().compile(grammar);
  } catch (const InvalidRequest& e) {
    return e.what();
  }
  return "taken";
}

class Structured : public testing::Test {
  void SetUp() override {
    if (!GrammarCompiler::available()) GTEST_SKIP() << "built without llguidance";
  }
};

TEST_F(Structured, ASchemaTakesItsValuesAndNoOthers) {
  const GrammarText schema{Kind::kJsonSchema,
                           R"({"type":"object","properties":{"name":{"type":"string"},"n":{"type":"integer"}},
                               "required":["name"],"additionalProperties":false})"};
  EXPECT_EQ(takes(schema, R"({"name": "é", "n": 12})"), Taken::kWhole);
  EXPECT_EQ(takes(schema, R"({"name": "x")"), Taken::kBegins);
  EXPECT_EQ(takes(schema, R"({"n": 1})"), Taken::kNo) << "name is required";
  EXPECT_EQ(takes(schema, R"({"name": "x", "n": 1.5})"), Taken::kNo);
  EXPECT_EQ(takes(schema, R"({"name": "x", "m": 1})"), Taken::kNo);
  EXPECT_EQ(takes(schema, "{\"name\"" + std::string(60, ' ')), Taken::kNo) << "white space is bounded";
}

TEST_F(Structured, AWholeAnswerMayOnlyEnd) {
  const auto c = compiler().compile({Kind::kJsonSchema, R"({"enum":["a","ab"]})"});
  EXPECT_EQ(takes(*c, "\"a"), Taken::kBegins);
  EXPECT_FALSE(allows(mask_of(*c), kEnd));
  EXPECT_EQ(takes(*c, "b\""), Taken::kWhole);
  EXPECT_TRUE(c->complete());
  const auto d = compiler().compile({Kind::kRegex, "a+"});
  EXPECT_EQ(takes(*d, "aa"), Taken::kWhole);
  EXPECT_FALSE(d->complete()) << "more may come";
  EXPECT_TRUE(allows(mask_of(*d), kOtherEnd));
  d->accept(kOtherEnd);
  EXPECT_TRUE(d->complete());
}

TEST_F(Structured, MasksKnowTokensOfSeveralBytesAndHaveNoOthers) {
  const auto c = compiler().compile({Kind::kJsonSchema, R"({"type":"object","properties":{"name":{"type":"null"}},
                                                            "required":["name"],"additionalProperties":false})"});
  ASSERT_EQ(takes(*c, "{\""), Taken::kBegins);
  const auto allowed = mask_of(*c);
  EXPECT_TRUE(allows(allowed, kWord));
  EXPECT_TRUE(allows(allowed, 'n'));
  EXPECT_FALSE(allows(allowed, kEmpty));
  for (TokenId token = kCount; token < 512; ++token) EXPECT_FALSE(allows(allowed, token)) << token;
  c->accept(kWord);
  EXPECT_TRUE(allows(mask_of(*c), kWord + 1));
}

TEST_F(Structured, NoTextMatchesAControlToken) {
  const auto c = compiler().compile({Kind::kRegex, "(?s:.*)"});
  const auto allowed = mask_of(*c);
  EXPECT_FALSE(allows(allowed, kCall));
  EXPECT_FALSE(allows(allowed, 0xFF)) << "no byte of a text";
  EXPECT_TRUE(allows(allowed, '<'));
  EXPECT_EQ(takes(*c, "<call>"), Taken::kWhole) << "its spelling is text";
  const auto named = compiler().compile({Kind::kLark, "start: " + lark_pieces({{"a<", -1}, {"", kCall}, {"b", -1}})});
  ASSERT_EQ(takes(*named, "a<"), Taken::kBegins);
  EXPECT_TRUE(allows(mask_of(*named), kCall));
  EXPECT_FALSE(allows(mask_of(*named), 'c'));
  named->accept(kCall);
  EXPECT_EQ(takes(*named, "b"), Taken::kWhole);
}

TEST_F(Structured, ObjectsChoicesExpressionsAndLark) {
  EXPECT_EQ(takes(any_json_object(), R"({"a": [1, {"b": null}]})"), Taken::kWhole);
  EXPECT_EQ(takes(any_json_object(), "["), Taken::kNo);
  const GrammarText yes_no = choice({"yes \"sir\"\n", "no|ä"});
  EXPECT_EQ(takes(yes_no, "yes \"sir\"\n"), Taken::kWhole);
  EXPECT_EQ(takes(yes_no, "no|ä"), Taken::kWhole);
  EXPECT_EQ(takes(yes_no, "no "), Taken::kNo);
  EXPECT_EQ(takes({Kind::kRegex, R"(\d{3}-\d{4})"}, "555-0123"), Taken::kWhole);
  EXPECT_EQ(takes({Kind::kRegex, R"(\d{3}-\d{4})"}, "555 "), Taken::kNo);
  const GrammarText sums{Kind::kLark, "start: sum\nsum: NUMBER | sum \"+\" NUMBER | \"(\" sum \")\"\nNUMBER: /[0-9]+/"};
  EXPECT_EQ(takes(sums, "(1+(22))"), Taken::kNo) << "a sum in brackets is no number";
  EXPECT_EQ(takes(sums, "(1+22)+3"), Taken::kWhole);
  EXPECT_THROW(choice({}), InvalidRequest);
}

TEST_F(Structured, QuotedTextMatchesItselfAndNothingElse) {
  const std::string text = "a.b/c*[d]{2}\\\"<\n\t é|^$#&~-(x)?+";
  EXPECT_EQ(takes({Kind::kLark, "start: /" + regex_of_text(text) + "/"}, text), Taken::kWhole);
  EXPECT_EQ(takes({Kind::kLark, "start: /" + regex_of_text(text) + "/"}, "ab"), Taken::kNo);
  EXPECT_EQ(takes({Kind::kLark, "start: " + lark_text(text)}, text), Taken::kWhole);
}

TEST_F(Structured, WhatASchemaDemandsBeyondTheLibraryIsRefusedByName) {
  const auto said = [](const std::string& schema) { return refusal({Kind::kJsonSchema, schema}); };
  EXPECT_THAT(said(R"({"type":"array","uniqueItems":true})"), HasSubstr("uniqueItems"));
  EXPECT_THAT(said(R"({"type":"array","contains":{"type":"null"}})"), HasSubstr("contains"));
  EXPECT_THAT(said(R"({"not":{"type":"null"}})"), HasSubstr("not"));
  EXPECT_THAT(said(R"({"type":"object","properties":{"a":{"if":{"const":1},"then":{"const":2}}}})"),
              testing::AllOf(HasSubstr("if"), HasSubstr("then")));
  EXPECT_THAT(said(R"({"type":"object","propertyNames":{"pattern":"a"}})"), HasSubstr("propertyNames"));
  EXPECT_THAT(said(R"({"type":"object","dependentRequired":{"a":["b"]}})"), HasSubstr("dependentRequired"));
  EXPECT_THAT(said(R"({"type":"object","unevaluatedProperties":false})"), HasSubstr("unevaluatedProperties"));
  EXPECT_THAT(said(R"({"type":"string","format":"iri"})"), HasSubstr("format that is not supported: iri"));
  EXPECT_THAT(said(R"({"oneOf":[{"type":"object"},{"type":"object"}]})"), HasSubstr("oneOf"));
  EXPECT_THAT(said(R"({"$ref":"https://example.org/s.json"})"), HasSubstr("https://example.org/s.json"));
  EXPECT_THAT(said(R"({"$ref":"#/$defs/nowhere"})"), HasSubstr("nowhere"));
  EXPECT_THAT(said(R"({"type":"strnig"})"), HasSubstr("strnig"));
  EXPECT_THAT(said(R"({"type":"string","pattern":"(?=a)b"})"), HasSubstr("cannot be enforced"));
  EXPECT_THAT(said(R"({"type":"integer","minimum":3,"maximum":2})"), HasSubstr("cannot be enforced"));
  EXPECT_THAT(said("{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(said("[1]"), HasSubstr("an object was expected"));
  EXPECT_THAT(said(R"({"type":"string","x-guidance":{"lenient":true}})"), HasSubstr("x-guidance"));
  EXPECT_THAT(refusal({Kind::kRegex, "a(b"}), HasSubstr("regular expression cannot be enforced"));
  EXPECT_THAT(refusal({Kind::kLark, "start: missing"}), HasSubstr("missing"));
  EXPECT_THAT(refusal({Kind::kLark, ""}), HasSubstr("cannot be enforced"));
}

// Whatever comes: a sentence, or masks whose next step is a sentence at worst. A minute says only that it ended.
bool ends_soon(const GrammarText& grammar) {
  const auto begin = std::chrono::steady_clock::now();
  bool taken = true;
  try {
    const auto c = compiler().compile(grammar);
    for (int step = 0; step < 300 && !c->complete(); ++step) {
      const auto allowed = mask_of(*c);
      TokenId token = 'a';
      while (!allows(allowed, token % 512)) ++token;
      c->accept(token % 512);
    }
  } catch (const InvalidRequest&) {
    taken = false;
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("the grammar of this answer"));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60)) << grammar.text.substr(0, 80);
  return taken;
}

TEST_F(Structured, HostileGrammarsEndWithASentence) {
  EXPECT_FALSE(ends_soon({Kind::kJsonSchema, std::string(300 * 1024, ' ') + "{}"}));
  std::string chain;
  for (int i = 0; i < 8000; ++i) chain += fmt::format(R"("d{}":{{"$ref":"#/$defs/d{}"}},)", i, i + 1);
  EXPECT_FALSE(
      ends_soon({Kind::kJsonSchema, R"({"$ref":"#/$defs/d0","$defs":{)" + chain + R"("d8000":{"type":"wrong"}}})"}));
  std::string all_of = R"({"type":"object"})";
  for (int i = 0; i < 60; ++i) all_of = R"({"anyOf":[)" + all_of + "," + all_of.substr(0, 900) + "]}";
  EXPECT_FALSE(ends_soon({Kind::kJsonSchema, all_of}));
  EXPECT_TRUE(
      ends_soon({Kind::kJsonSchema, R"({"type":"string","pattern":"((((a{1,99}){1,99}){1,99}){1,99}){1,99}"})"}));
  EXPECT_TRUE(ends_soon(
      {Kind::kJsonSchema, R"({"type":"array","items":{"type":"array","minItems":100000},"minItems":100000000})"}));
  EXPECT_FALSE(ends_soon({Kind::kRegex, std::string(20000, '(')}));
  EXPECT_TRUE(ends_soon({Kind::kRegex, "(((.{0,200}a.{0,200}){0,200}b){0,200}c){0,200}"}));
  EXPECT_FALSE(ends_soon({Kind::kLark, "start: " + std::string(100000, '(')}));
  EXPECT_FALSE(ends_soon({Kind::kLark, "start: start start start"}));
  std::string powers = R"({"allOf":[)";
  for (int i = 0; i < 12; ++i)
    powers += fmt::format(
        R"({}{{"anyOf":[{{"properties":{{"a{}":{{"const":1}}}}}},{{"properties":{{"b{}":{{"const":1}}}}}},{{"maxProperties":{}}}]}})",
        i ? "," : "", i, i, i + 3);
  EXPECT_FALSE(ends_soon({Kind::kJsonSchema, powers + "]}"}));
}

TEST_F(Structured, CompilationIsBoundedInTime) {
  std::vector<std::string> texts(256);
  std::vector<TokenText> tokens;
  for (std::size_t i = 0; i < 256; ++i) tokens.push_back({texts[i] = std::string(1, static_cast<char>(i))});
  const std::vector<TokenId> ends = {0};
  const GrammarCompiler hasty(tokens, ends, {1 << 20, 0});
  try {
    hasty.compile({Kind::kRegex, "(a|b|c){1,900}(d|e){1,900}"});
    FAIL();
  } catch (const InvalidRequest& e) {
    EXPECT_THAT(e.what(), HasSubstr("takes longer than 0 ms"));
  }
}

TEST_F(Structured, CopiesGoTheirOwnWays) {
  const auto c = compiler().compile(choice({"abc", "abd"}));
  ASSERT_EQ(takes(*c, "ab"), Taken::kBegins);
  const auto copy = c->clone();
  EXPECT_EQ(takes(*c, "c"), Taken::kWhole);
  EXPECT_EQ(takes(*copy, "d"), Taken::kWhole);
  EXPECT_EQ(takes(choice({"abc", "abd"}), "abc"), Taken::kWhole) << "what is remembered stays at the beginning";
}

TEST_F(Structured, ThreadsCompileAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      for (int i = 0; i < 20; ++i) {
        const std::string text = std::to_string((i + t) % 7);
        EXPECT_EQ(takes(choice({text, "x"}), text), Taken::kWhole);
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(StructuredNotBuilt, SaysSo) {
  if (GrammarCompiler::available()) GTEST_SKIP() << "built with llguidance";
  const std::vector<TokenText> tokens = {{"a", false}};
  const std::vector<TokenId> ends = {0};
  const GrammarCompiler c(tokens, ends);
  try {
    c.compile(any_json_object());
    FAIL();
  } catch (const InvalidRequest& e) {
    EXPECT_THAT(e.what(), HasSubstr("cargo-web"));
  }
}

}  // namespace
}  // namespace structured_test
}  // namespace hadal::grammar
