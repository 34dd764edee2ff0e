#include "hadal/data/megatron.h"

#include <gmock/gmock.h>

#include <fstream>

#include "hadal/io/json.h"
#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::data {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path kVectors = fs::path(HADAL_TEST_DATA) / "megatron";

std::vector<std::vector<TokenId>> documents_of(const MegatronDataset& data) {
  std::vector<std::vector<TokenId>> out;
  for (std::uint64_t i = 0; i < data.index().documents(); ++i) out.push_back(data.document(i, 65536));
  return out;
}

TEST(Megatron, ReadsWhatMegatronWrites) {
  const io::Json expected = io::read_json_file(kVectors / "documents.json");
  EXPECT_EQ(expected.size(), 9u);
  for (const auto& [name, documents] : expected.items()) {
    const MegatronDataset data(kVectors / name);
    EXPECT_EQ(documents_of(data), documents.get<std::vector<std::vector<TokenId>>>()) << name;
  }
  EXPECT_EQ(MegatronDataset(kVectors / "uint16.idx").index().dtype(), DType::kU16);
  EXPECT_EQ(MegatronDataset(kVectors / "int64.bin").index().dtype(), DType::kI64);
}

TEST(Megatron, WritesTheBytesThatMegatronWrites) {
  const test::TemporaryDirectory folder;
  for (const auto& [name, vocab_size] : {std::pair("uint16", 200), {"wide", 65499}, {"int32", 65500}}) {
    const auto documents = documents_of(MegatronDataset(kVectors / name));
    const fs::path prefix = folder.path() / name;
    MegatronWriter writer(prefix, vocab_size);
    for (const auto& document : documents) writer.add(document);
    EXPECT_TRUE(fs::is_empty(folder.path()) || !fs::exists(prefix.string() + ".idx"));
    writer.finish();
    for (const char* extension : {".bin", ".idx"})
      EXPECT_EQ(io::read_text_file(prefix.string() + extension),
                io::read_text_file(kVectors / (std::string(name) + extension)))
          << name << extension;
  }
}

TEST(Megatron, RefusesIdsBeyondTheVocabulary) {
  const MegatronDataset data(kVectors / "int8");
  EXPECT_THAT(test::said([&] { data.document(2, 105); }), HasSubstr("int8.bin, document 2: holds 105 at [5]"));
}

class MegatronIndexBytes : public testing::Test {
 protected:
  std::string said(const std::string& bytes, std::uint64_t bin_size) {
    return test::said([&] { MegatronIndex(std::as_bytes(std::span(bytes)), bin_size); });
  }
  // With a number of `size` bytes at `at`.
  std::string with(std::size_t at, std::int64_t value, std::size_t size) {
    std::string bytes = good_;
    std::memcpy(bytes.data() + at, &value, size);
    return said(bytes, 36);
  }
  // several: 5 sequences, documents of 2, 0, 3 and 1... of them: header 34, lengths 6 x 4, places 6 x 8, index 5 x 8
  const std::string good_ = io::read_text_file(kVectors / "several.idx");
};

TEST_F(MegatronIndexBytes, AreChecked) {
  ASSERT_EQ(good_.size(), 34u + 24 + 48 + 40);
  EXPECT_EQ(said(good_, 36), "nothing");
  EXPECT_THAT(said("", 36), HasSubstr("is no index of Megatron's"));
  EXPECT_THAT(said(good_.substr(0, 20), 36), HasSubstr("is cut off"));
  for (std::size_t i = 34; i < good_.size(); ++i) EXPECT_THAT(said(good_.substr(0, i), 36), HasSubstr("is cut off"));
  EXPECT_THAT(said(good_ + "x", 36), HasSubstr("has 1 bytes more"));
  EXPECT_EQ(said(good_ + "123456", 36), "nothing");  // modes
  EXPECT_THAT(said(good_, 35), HasSubstr("sequence 5 has 1 tokens at byte 32, beyond the .bin file's 35 bytes"));
  EXPECT_THAT(with(9, 2, 8), HasSubstr("has version 2"));
  EXPECT_THAT(with(17, 0, 1), HasSubstr("dtype code 0"));
  EXPECT_THAT(with(17, 9, 1), HasSubstr("dtype code 9"));
  EXPECT_THAT(with(17, 7, 1), HasSubstr("holds F32 values, no token ids"));
  EXPECT_THAT(with(18, -1, 8), HasSubstr("is cut off"));
  EXPECT_THAT(with(18, std::int64_t{1} << 61, 8), HasSubstr("is cut off"));
  EXPECT_THAT(with(26, -1, 8), HasSubstr("is cut off"));
  EXPECT_THAT(with(34, -1, 4), HasSubstr("sequence 0 has -1 tokens"));
  EXPECT_THAT(with(34, 10, 4), HasSubstr("sequence 0 has 10 tokens"));
  EXPECT_THAT(with(58, -1, 8), HasSubstr("sequence 0"));
  EXPECT_THAT(with(58, std::int64_t{1} << 62, 8), HasSubstr("sequence 0"));
  EXPECT_THAT(with(106, 1, 8), HasSubstr("does not begin with 0"));
  EXPECT_THAT(with(106 + 8, 7, 8), HasSubstr("does not ascend"));
  EXPECT_THAT(with(106 + 32, 7, 8), HasSubstr("does not end with the number of sequences"));
}

}  // namespace
}  // namespace hadal::data
