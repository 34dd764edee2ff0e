#include "hadal/data/fim.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include "hadal/data/document_hash.h"
#include "tests/support/said.h"

namespace hadal::data {
namespace {

const std::filesystem::path kMini = std::filesystem::path(HADAL_SOURCE_DIR) / "models/mini";

TEST(Fim, TokensHaveTheirPublishedSpellings) {
  const auto v3 = tokenizer::Tokenizer::load(std::filesystem::path(HADAL_TEST_DATA) / "tokenizer/deepseek-v3");
  const FimTokens t = find_fim_tokens(v3, "v3");
  EXPECT_EQ(t.hole, 128800);
  EXPECT_EQ(t.begin, 128801);
  EXPECT_EQ(t.end, 128802);
  const auto kimi = tokenizer::Tokenizer::load(std::filesystem::path(HADAL_TEST_DATA) / "tokenizer/made/kimi-like");
  EXPECT_THAT(test::said([&] { find_fim_tokens(kimi, "kimi"); }),
              testing::HasSubstr("kimi: has no tokens for fill-in-the-middle (<｜fim▁begin｜>, <｜fim▁hole｜> and "
                                 "<｜fim▁end｜>); --fim-rate 0 does without"));
}

TEST(Fim, ItsShareOfTheDocumentsIsCutAnywhereBetweenCharacters) {
  const std::string text = "Är 日本語";  // 6 characters of 1, 2 and 3 bytes
  const std::vector<std::size_t> ends{0, 2, 3, 4, 7, 10, 13};
  int cut = 0;
  std::map<std::pair<std::size_t, std::size_t>, int> seen;
  for (int i = 0; i < 20000; ++i) {
    const auto c = fim_cut(text, document_hash(std::to_string(i)), 3, 0.25);
    if (!c) continue;
    ++cut;
    EXPECT_LE(c->begin, c->end);
    EXPECT_THAT(ends, testing::Contains(c->begin));
    EXPECT_THAT(ends, testing::Contains(c->end));
    ++seen[{c->begin, c->end}];
  }
  EXPECT_NEAR(cut, 5000, 250);  // four standard deviations
  EXPECT_EQ(seen.size(), 28u);  // all pairs of 7 places
  // Two places that are drawn apart: equal ones half as often as two that differ.
  for (const auto& [where, n] : seen) EXPECT_NEAR(n, where.first == where.second ? 102 : 204, 60);
}

TEST(Fim, DependsOnSeedAndTextAlone) {
  const std::string text = "The sea is deep and dark.";
  const auto at = [&](const char* name, std::uint64_t seed) {
    const auto c = fim_cut(text, document_hash(name), seed, 1);
    return std::pair(c->begin, c->end);
  };
  EXPECT_EQ(at("a", 1), at("a", 1));
  EXPECT_NE(at("a", 1), at("a", 2));
  EXPECT_NE(at("a", 1), at("b", 1));
  EXPECT_FALSE(fim_cut(text, document_hash("a"), 1, 0));
  EXPECT_FALSE(fim_cut("x", document_hash("a"), 1, 1));
}

TEST(Fim, IsWrittenPrefixSuffixMiddle) {
  const auto mini = tokenizer::Tokenizer::load(kMini);
  const auto ids = encode_fim(mini, find_fim_tokens(mini, "mini"), "The sea is deep.", {4, 11});
  EXPECT_EQ(mini.decode(ids), "<｜fim▁begin｜>The <｜fim▁hole｜>deep.<｜fim▁end｜>sea is ");
}

TEST(Fim, SpelledOutTokensOfATextStayText) {
  const auto mini = tokenizer::Tokenizer::load(kMini);
  const FimTokens t = find_fim_tokens(mini, "mini");
  const auto ids = encode_fim(mini, t, "<｜fim▁hole｜>", {0, 0});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), t.hole), 1);
}

}  // namespace
}  // namespace hadal::data
