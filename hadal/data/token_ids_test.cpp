#include "hadal/data/token_ids.h"

#include <gmock/gmock.h>

#include "tests/support/said.h"

namespace hadal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class T>
ConstTensorRef tensor_of(const std::vector<T>& values, DType dtype, Shape shape) {
  return ConstTensorRef(values.data(), dtype, shape);
}

template <class T>
std::vector<TokenId> read_as(DType dtype) {
  const std::vector<T> values{0, 5, 127, 3, 2, 1};
  return token_ids(tensor_of(values, dtype, {2, 3}), 128, "f: ids");
}

TEST(TokenIds, AreTheSameInIntegersOfAnyWidth) {
  const auto same = ElementsAre(0, 5, 127, 3, 2, 1);
  EXPECT_THAT(read_as<std::int8_t>(DType::kI8), same);
  EXPECT_THAT(read_as<std::uint8_t>(DType::kU8), same);
  EXPECT_THAT(read_as<std::int16_t>(DType::kI16), same);
  EXPECT_THAT(read_as<std::uint16_t>(DType::kU16), same);
  EXPECT_THAT(read_as<std::int32_t>(DType::kI32), same);
  EXPECT_THAT(read_as<std::uint32_t>(DType::kU32), same);
  EXPECT_THAT(read_as<std::int64_t>(DType::kI64), same);
  EXPECT_THAT(read_as<std::uint64_t>(DType::kU64), same);
}

TEST(TokenIds, FollowStrides) {
  const std::vector<std::int16_t> values{1, 2, 3, 4, 5, 6};
  EXPECT_THAT(token_ids(tensor_of(values, DType::kI16, {2, 3}).columns(1, 3), 7, "x"), ElementsAre(2, 3, 5, 6));
}

TEST(TokenIds, OutsideTheVocabularyNameTheirPlace) {
  const std::vector<std::int32_t> high{1, 2, 3, 9}, low{1, -1};
  EXPECT_EQ(test::said([&] { token_ids(tensor_of(high, DType::kI32, {2, 2}), 9, "f: ids"); }),
            "f: ids: holds 9 at [1, 1], ids are below vocab_size 9");
  EXPECT_THAT(test::said([&] { token_ids(tensor_of(low, DType::kI32, {2}), 9, "f: ids"); }),
              HasSubstr("holds -1 at [1]"));
  const std::vector<std::uint64_t> wraps{std::uint64_t{1} << 63 | 1, std::uint64_t{1} << 32 | 1};
  EXPECT_THAT(test::said([&] { token_ids(tensor_of(wraps, DType::kU64, {1}), 9, "x"); }), HasSubstr("at [0]"));
  EXPECT_THAT(test::said([&] { token_ids(tensor_of(wraps, DType::kU64, {2}).slice(0, 1, 2), 9, "x"); }),
              HasSubstr("4294967297"));
}

TEST(TokenIds, OfFloatsAreRefused) {
  const std::vector<float> values{1};
  EXPECT_THAT(test::said([&] { token_ids(tensor_of(values, DType::kF32, {1}), 9, "f: ids"); }),
              HasSubstr("f: ids: has dtype F32, token ids are integers"));
}

TEST(TokenIds, TargetsMayBeIgnored) {
  const std::vector<std::int8_t> values{1, -100};
  EXPECT_THAT(target_ids(tensor_of(values, DType::kI8, {2}), 9, "x"), ElementsAre(1, kIgnored));
  EXPECT_THAT(test::said([&] { token_ids(tensor_of(values, DType::kI8, {2}), 9, "x"); }), HasSubstr("holds -100"));
  const std::vector<std::int8_t> other{-99};
  EXPECT_THAT(test::said([&] { target_ids(tensor_of(other, DType::kI8, {1}), 9, "x"); }), HasSubstr("holds -99"));
}

}  // namespace
}  // namespace hadal::data
