#include "hadal/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "hadal/core/error.h"
#include "hadal/core/random.h"
#include "hadal/io/json.h"
#include "hadal/tokenizer/stream_decoder.h"

namespace hadal::tokenizer {
namespace tokenizer_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kData = HADAL_TEST_DATA "/tokenizer/";

const Tokenizer& v3() {
  static const Tokenizer tokenizer = Tokenizer::load(kData + "deepseek-v3");
  return tokenizer;
}

std::vector<std::string> pieces(std::string_view text, bool by_patterns) {
  std::vector<std::string> out;
  const auto add = [&](std::string_view p) { out.emplace_back(p); };
  if (by_patterns)
    v3().pre_tokenizer().split_by_patterns(text, add);
  else
    v3().pre_tokenizer().split(text, add);
  return out;
}

// Text from every corner of Unicode that the splits tell apart.
std::string random_text(std::uint64_t seed, std::size_t length) {
  static const std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges = {
      {0x20, 0x7E},       {0x20, 0x20},       {0x30, 0x39},       {0x41, 0x7A},      {0x09, 0x0D},     {0x0A, 0x0A},
      {0x00, 0x1F},       {0x7F, 0xA0},       {0xA1, 0x17F},      {0x300, 0x36F},    {0x370, 0x4FF},   {0x590, 0x6FF},
      {0x900, 0x97F},     {0xE00, 0xE7F},     {0x1680, 0x1680},   {0x180E, 0x180E},  {0x2000, 0x206F}, {0x2150, 0x218F},
      {0x2200, 0x22FF},   {0x3000, 0x30FF},   {0x4E00, 0x4E20},   {0x9FA0, 0x9FB0},  {0xAC00, 0xAC20}, {0xFF00, 0xFFEF},
      {0x1F600, 0x1F64F}, {0x1D400, 0x1D420}, {0x10400, 0x10420}, {0xE0100, 0xE0110}};
  const Philox random(seed, 7);
  std::string text;
  for (std::size_t i = 0; i < length; ++i) {
    const auto [low, high] =
        ranges[static_cast<std::size_t>(random.uniform(2 * i) * static_cast<double>(ranges.size()))];
    append_utf8(text, low + static_cast<std::uint32_t>(random.uniform(2 * i + 1) * (high - low + 1)));
  }
  return text;
}

TEST(Tokenizer, Rule1_Rule2_AgreesWithThePublishedTokenizerOn428Texts) {
  std::ifstream file(kData + "vectors/vectors.jsonl");
  std::string line;
  int count = 0;
  while (std::getline(file, line)) {
    const auto row = nlohmann::json::parse(line);
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<std::vector<TokenId>>();
    EXPECT_EQ(v3().encode(text), ids) << text;
    EXPECT_EQ(v3().decode(ids), text);
    ++count;
  }
  EXPECT_EQ(count, 428);
}

TEST(Tokenizer, Rule3_Wikitext8191TokensBothWaysWithoutBos) {
  std::istringstream file(io::read_text_file(kData + "vectors/wikitext-8192.ids.txt"));
  std::vector<TokenId> ids;
  std::string all((std::istreambuf_iterator<char>(file)), {});
  for (char& c : all)
    if ((c < '0' || c > '9')) c = ' ';
  std::istringstream numbers(all);
  for (TokenId id; numbers >> id;) ids.push_back(id);
  ASSERT_EQ(ids.size(), 8192u);
  ids.erase(ids.begin());  // BOS
  const std::string text = io::read_text_file(kData + "vectors/wikitext-8192.txt");
  EXPECT_EQ(v3().encode(text), ids);
  EXPECT_EQ(v3().decode(ids), text);
}

TEST(Tokenizer, Rule11_FimAndThinkTokensHaveTheirIds) {
  EXPECT_EQ(v3().added_token("<｜fim▁hole｜>"), 128800);
  EXPECT_EQ(v3().added_token("<｜fim▁begin｜>"), 128801);
  EXPECT_EQ(v3().added_token("<｜fim▁end｜>"), 128802);
  EXPECT_THAT(v3().encode("<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>"), ElementsAre(128801, 67, 128800, 68, 128802));
}

TEST(Tokenizer, IdsBeyondTheVocabularyAreNotAssigned) {
  EXPECT_EQ(v3().vocab_size(), 128815);
  EXPECT_TRUE(v3().is_assigned(128814));
  EXPECT_FALSE(v3().is_assigned(128815));
  EXPECT_FALSE(v3().is_assigned(-1));
  const std::vector<TokenId> beyond = {129279};
  EXPECT_THROW(v3().decode(beyond), Error);
}

TEST(Tokenizer, Rule10_OnlyTheTemplateMayWriteAddedTokens) {
  const TokenId user = *v3().added_token("<｜User｜>");
  Prompt prompt;
  prompt.append("<｜User｜>", Origin::kTemplate);
  prompt.append("<｜User｜>", Origin::kUser);
  const auto ids = v3().encode(prompt);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), user), 1);
  EXPECT_EQ(v3().decode(ids), prompt.text);
  // Nor may a user complete what a template began, or the other way round.
  Prompt torn;
  torn.append("<｜Us", Origin::kTemplate);
  torn.append("er｜>", Origin::kUser);
  const auto torn_ids = v3().encode(torn);
  EXPECT_EQ(std::count(torn_ids.begin(), torn_ids.end(), user), 0);
}

TEST(Tokenizer, IgnoringAddedTokensEncodesTheirSpelling) {
  const std::string text = "<｜User｜>hi<think>";
  const auto ids = v3().encode(text, AddedTokenMode::kIgnore);
  for (TokenId id : ids) EXPECT_LT(id, 128000);
  EXPECT_EQ(v3().decode(ids), text);
}

TEST(Tokenizer, ScannerAndPatternsGiveTheSamePieces) {
  ASSERT_TRUE(v3().pre_tokenizer().has_scanner());
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    const std::string text = random_text(seed, 1 + seed % 60);
    const auto fast = pieces(text, false), slow = pieces(text, true);
    const auto [a, b] = std::mismatch(fast.begin(), fast.end(), slow.begin(), slow.end());
    ASSERT_TRUE(a == fast.end() && b == slow.end())
        << "seed " << seed << ": " << ::testing::PrintToString(std::vector(a, fast.end())) << " and "
        << ::testing::PrintToString(std::vector(b, slow.end()));
  }
}

TEST(Tokenizer, AnyBytesComeBack) {
  const Philox random(3, 1);
  for (std::uint64_t n = 0; n < 500; ++n) {
    std::string bytes;
    for (std::uint64_t i = 0; i < 1 + n % 50; ++i)
      bytes += static_cast<char>(random.block(n * 64 + i)[0] & (n % 2 ? 0xFF : 0x8F));
    ASSERT_EQ(v3().decode(v3().encode(bytes)), bytes);
  }
}

TEST(Tokenizer, LongWordsEncodeLikeShortOnesDo) {
  // The heap that long pieces go through must merge as the plain search does: compare around the border between them.
  for (std::size_t length = 40; length < 60; ++length) {
    std::string word;
    for (std::size_t i = 0; i < length; ++i) word += "thecommittee"[i * 7 % 12];
    const std::string padded = word + " " + word;
    const auto one = v3().encode(word), two = v3().encode(padded);
    EXPECT_EQ(v3().decode(one), word);
    EXPECT_TRUE(std::equal(one.begin(), one.end(), two.begin()));
  }
}

TEST(Tokenizer, TenMegabytesWithoutASpaceAreLinear) {
  for (const std::string unit : {"a", "xyzzy", " ", "7", "一二三", "\n", "!?", "é"}) {
    std::string text;
    while (text.size() < 2'000'000) text += unit;
    EXPECT_EQ(v3().decode(v3().encode(text)), text);
  }
}

TEST(Tokenizer, ThreadsMayShareATokenizer) {
  const std::string text = random_text(5, 20000);
  const auto expected = v3().encode(text);
  std::vector<std::thread> threads;
  std::vector<std::vector<TokenId>> got(4);
  for (auto& ids : got) threads.emplace_back([&] { ids = v3().encode(text); });
  for (auto& t : threads) t.join();
  for (const auto& ids : got) EXPECT_EQ(ids, expected);
}

TEST(StreamDecoder, Rule45_CharactersSpreadOverTokensComeOutWhole) {
  const std::string text = "naïve 🙂 日本語 ok";
  std::string streamed;
  StreamDecoder decoder(v3());
  for (TokenId id : v3().encode(text)) {
    const std::string part = decoder.push(id);
    EXPECT_EQ(replace_invalid_utf8(part), part);
    streamed += part;
  }
  EXPECT_EQ(streamed + decoder.finish(), text);
}

TEST(StreamDecoder, Rule45_ACutCharacterBecomesAReplacementAtTheEndOnly) {
  const auto ids = v3().encode("\xF0\x9F\x99");
  StreamDecoder decoder(v3());
  std::string streamed;
  for (TokenId id : ids) streamed += decoder.push(id);
  EXPECT_EQ(streamed, "");
  EXPECT_THAT(decoder.finish(), HasSubstr("\xEF\xBF\xBD"));
}

TEST(StreamDecoder, SpecialTokensAreSkipped) {
  StreamDecoder decoder(v3());
  EXPECT_EQ(decoder.push(1), "");
  EXPECT_EQ(decoder.push(128803), "<｜User｜>");  // an added token that is not special
}

}  // namespace
}  // namespace tokenizer_test
}  // namespace hadal::tokenizer
