#include "hadal/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <fstream>

#include "hadal/core/error.h"
#include "hadal/core/random.h"
#include "tests/support/temporary_directory.h"

namespace hadal::io {
namespace safetensors_test {
namespace {

using test::TemporaryDirectory;
using ::testing::HasSubstr;

std::string file_bytes(const std::string& header, std::size_t data) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[static_cast<std::size_t>(i)] = static_cast<char>(header.size() >> (8 * i));
  return bytes + header + std::string(data, 'x');
}

std::string error_of(const std::string& bytes) {
  try {
    SafetensorsHeader::parse(std::as_bytes(std::span(bytes)), bytes.size(), "file");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

struct Damage {
  const char* name;
  std::string header;
  std::size_t data;
  const char* sentence;
};

class DamagedFile : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedFile, IsOneSentence) {
  EXPECT_THAT(error_of(file_bytes(GetParam().header, GetParam().data)), HasSubstr(GetParam().sentence));
}

INSTANTIATE_TEST_SUITE_P(
    Table, DamagedFile,
    ::testing::Values(
        Damage{"NotJson", "{oops", 0, "not valid JSON"}, Damage{"NotObject", "[]", 0, "not a JSON object"},
        Damage{"EntryNotObject", R"({"a":1})", 0, "tensor a: is not described by an object"},
        Damage{"NoDtype", R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, "has no dtype"},
        Damage{"UnknownDtype", R"({"a":{"dtype":"F12","shape":[1],"data_offsets":[0,4]}})", 4,
               "dtype F12 is not known"},
        Damage{"NoShape", R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "has no shape"},
        Damage{"NegativeShape", R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4,
               "something else than sizes"},
        Damage{"HugeShape", R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4,
               "too many elements"},
        Damage{"HugeShapeWithZero",
               R"({"a":{"dtype":"F32","shape":[0,9223372036854775807,9223372036854775807],"data_offsets":[0,0]}})", 0,
               "too many elements"},
        Damage{"ManyDimensions", R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1],"data_offsets":[0,4]}})", 4,
               "more than 5 dimensions"},
        Damage{"NoOffsets", R"({"a":{"dtype":"F32","shape":[1]}})", 4, "not two offsets"},
        Damage{"OneOffset", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}})", 4, "not two offsets"},
        Damage{"Reversed", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "are reversed"},
        Damage{"BehindTheEnd", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "truncated"},
        Damage{"WrongLength", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "needs 8"},
        Damage{
            "Overlap",
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            8, "tensor b overlaps"},
        Damage{"Hole", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "4 bytes before tensor a"},
        Damage{"BytesLeft", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 9, "5 bytes at the end"},
        Damage{
            "Twice",
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            8, "tensor a occurs twice"},
        Damage{"Metadata", R"({"__metadata__":{"x":1}})", 0, "__metadata__ x is not a string"}),
    [](const auto& p) { return p.param.name; });

TEST(Safetensors, WrongFilesAreNamedForWhatTheyAre) {
  EXPECT_THAT(error_of("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), HasSubstr("Git LFS pointer"));
  EXPECT_THAT(error_of("<!DOCTYPE html><html>"), HasSubstr("HTML page"));
  EXPECT_THAT(error_of(""), HasSubstr("too few"));
  EXPECT_THAT(error_of(std::string(8, '\xFF') + "{}"), HasSubstr("not a safetensors file?"));
  EXPECT_THROW(SafetensorsFile("/no/such/file"), Error);
  EXPECT_THROW(SafetensorsFile("/"), Error);
}

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  const TemporaryDirectory dir;
  const std::vector<DType> dtypes = {DType::kU8,  DType::kF8E4M3, DType::kBF16, DType::kF16,
                                     DType::kF32, DType::kI32,    DType::kI64,  DType::kF64};
  std::vector<SafetensorsWriter::Entry> entries;
  std::vector<Tensor> tensors;
  const Philox random(1, 1);
  for (std::size_t i = 0; i < dtypes.size(); ++i) {
    tensors.emplace_back(dtypes[i], Shape{static_cast<Index>(i), 3, 5});
    auto* bytes = static_cast<std::uint8_t*>(tensors.back()->raw());
    for (Index b = 0; b < tensors.back()->num_bytes(); ++b)
      bytes[b] = static_cast<std::uint8_t>(random.block(i * 1000 + static_cast<std::size_t>(b))[0]);
    entries.push_back({"t\"" + std::to_string(i) + "ü", dtypes[i], tensors.back().shape()});
  }
  SafetensorsWriter writer(dir.path() / "a.safetensors", entries, {{"format", "pt"}});
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "a.safetensors"));
  for (const Tensor& t : tensors) writer.write(t.ref());
  writer.finish();
  const SafetensorsFile file(dir.path() / "a.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const TensorInfo* info = file.find(entries[i].name);
    ASSERT_NE(info, nullptr);
    const ConstTensorRef t = file.tensor(*info);
    EXPECT_EQ(t.dtype(), dtypes[i]);
    EXPECT_EQ(t.shape(), entries[i].shape);
    EXPECT_EQ(std::memcmp(t.raw(), tensors[i]->raw(), static_cast<std::size_t>(t.num_bytes())), 0);
  }
}

TEST(Safetensors, MisalignedTensorsAreRealigned) {
  const TemporaryDirectory dir;
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})";
  std::string bytes = file_bytes(header, 1);
  const float value = 1.5f;
  bytes.append(reinterpret_cast<const char*>(&value), 4);
  std::ofstream(dir.path() / "m", std::ios::binary) << bytes;
  const SafetensorsFile file(dir.path() / "m");
  const ConstTensorRef b = file.tensor(*file.find("b"));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.raw()) % 4, 0u);
  EXPECT_EQ(b.data<float>()[0], 1.5f);
}

TEST(Safetensors, AFileCutAnywhereIsRefused) {
  const TemporaryDirectory dir;
  const Tensor t = Tensor::zeros(DType::kF32, {3});
  SafetensorsWriter writer(dir.path() / "a", {{"x", DType::kF32, {3}}});
  writer.write(t.ref());
  writer.finish();
  std::ifstream in(dir.path() / "a", std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  for (std::size_t n = 0; n < whole.size(); ++n) EXPECT_NE(error_of(whole.substr(0, n)), "") << n;
  EXPECT_EQ(error_of(whole), "");
}

TEST(Safetensors, MutatedHeadersNeverDoWorseThanAnError) {
  const std::string good = file_bytes(
      R"({"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"y":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})",
      32);
  const Philox random(2, 2);
  for (std::uint64_t round = 0; round < 20000; ++round) {
    std::string bytes = good;
    for (std::uint64_t n = 0; n < 1 + round % 3; ++n) {
      const auto b = random.block(round * 4 + n);
      if (b[2] % 4 == 0)
        bytes.erase(b[0] % bytes.size(), 1);
      else
        bytes[b[0] % (bytes.size())] = static_cast<char>(b[2] % 2 ? b[1] : "0123456789[]{},:\"-"[b[1] % 18]);
    }
    try {
      const auto header = SafetensorsHeader::parse(std::as_bytes(std::span(bytes)), bytes.size(), "file");
      for (const TensorInfo& t : header.tensors) ASSERT_LE(t.end, bytes.size());
    } catch (const Error&) {
    }
  }
}

TEST(SafetensorsWriter, NothingRemainsOfAnUnfinishedFile) {
  const TemporaryDirectory dir;
  {
    SafetensorsWriter writer(dir.path() / "a", {{"x", DType::kF32, {100}}});
    const float part[10] = {};
    writer.write(std::as_bytes(std::span(part)));
    EXPECT_THROW(writer.finish(), Error);
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(SafetensorsWriter, AFullDiskIsOneSentence) {
  const TemporaryDirectory dir;
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 20, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string sentence;
  try {
    const Tensor t = Tensor::zeros(DType::kF32, {1 << 20});
    SafetensorsWriter writer(dir.path() / "a", {{"x", DType::kF32, {1 << 20}}});
    writer.write(t.ref());
    writer.finish();
  } catch (const Error& e) {
    sentence = e.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(sentence, HasSubstr("cannot be written"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

}  // namespace
}  // namespace safetensors_test
}  // namespace hadal::io
