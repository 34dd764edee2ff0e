// Vectors of other implementations, file by file.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "hadal/core/error.h"
#include "hadal/core/random.h"
#include "hadal/io/json.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::tokenizer {
namespace vectors_test {
namespace {

const std::string kData = HADAL_TEST_DATA "/tokenizer/";

void expect_rows(const Tokenizer& tokenizer, const std::string& file, int least) {
  std::ifstream in(file);
  int rows = 0;
  for (std::string line; std::getline(in, line); ++rows) {
    const auto row = nlohmann::json::parse(line);
    const auto text = row["text"].get<std::string>();
    EXPECT_EQ(tokenizer.encode(text), row["ids"].get<std::vector<TokenId>>()) << line;
  }
  EXPECT_GE(rows, least);
}

// llama.cpp's 46 texts and ids of an older vocabulary.
void expect_llama_rows(const std::string& name) {
  const Tokenizer tokenizer = Tokenizer::load(kData + name);
  const std::string texts = io::read_text_file(kData + "older/ggml-vocab-" + name + ".gguf.inp");
  std::ifstream ids_file(kData + "older/ggml-vocab-" + name + ".gguf.out");
  const std::string separator = "\n__ggml_vocab_test__\n";
  int rows = 0;
  for (std::size_t at = 0; at < texts.size(); ++rows) {
    const std::size_t end = std::min(texts.find(separator, at), texts.size());
    const std::string text = texts.substr(at, end - at);
    at = end + separator.size();
    std::string line;
    ASSERT_TRUE(std::getline(ids_file, line)) << text;
    std::istringstream numbers(line);
    const std::vector<TokenId> ids{std::istream_iterator<TokenId>(numbers), {}};
    EXPECT_EQ(tokenizer.encode(text), ids) << text;
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
  EXPECT_EQ(rows, 46);
}

TEST(Vectors, Rule1_DeepseekLlmVocabularyOfV2) {
  expect_llama_rows("deepseek-llm");
}
TEST(Vectors, Rule1_DeepseekCoderVocabulary) {
  expect_llama_rows("deepseek-coder");
}
TEST(Vectors, TiktokenFilesAgreeWithTheTiktokenPackage) {
  expect_rows(Tokenizer::load(kData + "made/kimi-like"), kData + "made/kimi-like/vectors.jsonl", 400);
}
TEST(Vectors, FlagsOfAddedTokensAgreeWithTheTokenizersPackage) {
  expect_rows(Tokenizer::load(kData + "made/added"), kData + "made/added/vectors.jsonl", 400);
}
TEST(Vectors, RandomUnicodeAgreesWithTheTokenizersPackage) {
  expect_rows(Tokenizer::load(kData + "deepseek-v3"), kData + "made/v3.jsonl", 600);
}

TEST(Vectors, TheStressTextGivesTheIdsThatLlamaCppHashes) {
  const auto chk = io::read_json_file(kData + "vectors/llama-cpp-chk.json");
  auto ids = Tokenizer::load(kData + "deepseek-v3").encode(chk["text"].get<std::string>());
  ids.insert(ids.begin(), 0);  // the published hash is over the ids with BOS; tests/cli checks the hash itself
  EXPECT_EQ(ids, chk["ids_with_bos"].get<std::vector<TokenId>>());
}

template <class Parse>
void mutate(const std::string& good, std::uint64_t seed, const Parse& parse) {
  const Philox random(seed, 4);
  for (std::uint64_t round = 0; round < 3000; ++round) {
    std::string text = good;
    for (std::uint64_t n = 0; n < 1 + round % 3; ++n) {
      const auto b = random.block(round * 4 + n);
      const std::size_t at = b[0] % text.size();
      if (b[1] % 3 == 0)
        text.erase(at, 1 + b[2] % 8);
      else if (b[1] % 3 == 1)
        text.insert(at, 1, "{}[]\",:0123456789 -"[b[2] % 19]);
      else
        text[at] = static_cast<char>(b[2]);
      if (text.empty()) text = " ";
    }
    try {
      parse(text);
    } catch (const Error&) {
    }
  }
}

TEST(TokenizerFiles, MutatedFilesNeverDoWorseThanAnError) {
  const std::string json =
      R"({"added_tokens":[{"id":5,"content":"<x>","special":true}],"normalizer":null,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{N}+|[^\\s&&[^a]]"},
    "behavior":"Isolated","invert":false},{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}]},"decoder":{"type":"ByteLevel"},
    "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"Ġ":3,"c":4},"merges":[["a","b"]]}})";
  mutate(json, 1,
         [](const std::string& text) { Tokenizer(parse_tokenizer_json(text, "f"), {}, "f").encode("ab 12 <x> c"); });
  mutate("YQ== 0\nYg== 1\nYWI= 2\nIA== 3\n", 2,
         [](const std::string& text) { Tokenizer(parse_tiktoken_model(text, {}, "f"), {}, "f").encode("ab a"); });
  mutate(
      R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","add_bos_token":false,"added_tokens_decoder":{"5":{"content":"x","special":true}}})",
      3, [](const std::string& text) { parse_tokenizer_config(text, "f"); });
}

}  // namespace
}  // namespace vectors_test
}  // namespace hadal::tokenizer
