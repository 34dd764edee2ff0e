#include "hadal/io/checkpoint_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "hadal/core/error.h"
#include "hadal/io/generation_config.h"
#include "hadal/io/json.h"
#include "tests/support/temporary_directory.h"

namespace hadal::io {
namespace {

using test::TemporaryDirectory;
using ::testing::HasSubstr;

void write_file(const std::filesystem::path& path, const std::vector<std::string>& names) {
  std::vector<SafetensorsWriter::Entry> entries;
  for (const auto& name : names) entries.push_back({name, DType::kF32, {2}});
  SafetensorsWriter writer(path, entries);
  const Tensor t = Tensor::zeros(DType::kF32, {2});
  for (std::size_t i = 0; i < names.size(); ++i) writer.write(t.ref());
  writer.finish();
}

std::string error_of(const std::filesystem::path& directory) {
  try {
    CheckpointFiles files(directory);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(CheckpointFiles, Rule31_AScaleMayLieInAnotherShard) {
  const TemporaryDirectory dir;
  write_file(dir.path() / "a.safetensors", {"w"});
  write_file(dir.path() / "b.safetensors", {"w_scale_inv"});
  std::ofstream(dir.path() / "model.safetensors.index.json")
      << R"({"weight_map":{"w":"a.safetensors","w_scale_inv":"b.safetensors"}})";
  const CheckpointFiles files(dir.path());
  EXPECT_TRUE(files.find("w") && files.find("w_scale_inv"));
  EXPECT_FALSE(files.find("x"));
  EXPECT_EQ(files.total_bytes(), 16u);
}

TEST(CheckpointFiles, WithoutAnIndexOnlyTheSingleFileIsRead) {
  const TemporaryDirectory dir;
  write_file(dir.path() / "model.safetensors", {"w"});
  write_file(dir.path() / "golden.safetensors", {"other"});
  EXPECT_EQ(CheckpointFiles(dir.path()).names(), std::vector<std::string>{"w"});
}

TEST(CheckpointFiles, HubSnapshotsOfLinksWork) {
  const TemporaryDirectory dir;
  std::filesystem::create_directories(dir.path() / "blobs");
  std::filesystem::create_directories(dir.path() / "snapshots/rev");
  write_file(dir.path() / "blobs/abc", {"w"});
  std::filesystem::create_symlink("../../blobs/abc", dir.path() / "snapshots/rev/model.safetensors");
  EXPECT_TRUE(CheckpointFiles(dir.path() / "snapshots/rev").contains("w"));
}

TEST(CheckpointFiles, FaultsAreNamed) {
  const TemporaryDirectory dir;
  EXPECT_THAT(error_of(dir.path() / "none"), HasSubstr("no such directory"));
  EXPECT_THAT(error_of(dir.path()), HasSubstr("has neither model.safetensors.index.json nor model.safetensors"));
  const auto index = dir.path() / "model.safetensors.index.json";
  std::ofstream(index) << R"({"weight_map":{"w":"a.safetensors","v":"a.safetensors","u":"missing.safetensors"}})";
  write_file(dir.path() / "a.safetensors", {"x"});
  EXPECT_THAT(error_of(dir.path()), HasSubstr("missing.safetensors: cannot be opened"));
  write_file(dir.path() / "missing.safetensors", {"u"});
  EXPECT_THAT(error_of(dir.path()), ::testing::AllOf(HasSubstr("has no tensor w"), HasSubstr("has no tensor v")));
  for (const char* evil : {"../x.safetensors", "/etc/passwd", "..", "", "a/b"}) {
    std::ofstream(index) << R"({"weight_map":{"w":")" << evil << "\"}}";
    EXPECT_THAT(error_of(dir.path()), HasSubstr("a file in the same directory was expected")) << evil;
  }
  std::ofstream(index) << "{";
  EXPECT_THAT(error_of(dir.path()), HasSubstr("not valid JSON"));
}

TEST(GenerationConfig, ReadsIntegersAndListsAndNamesEveryFault) {
  const GenerationConfig c = parse_generation_config(
      Json::parse(R"({"eos_token_id": [1, 2], "temperature": 0.6, "top_p": 0.95, "do_sample": true})"), "g");
  EXPECT_EQ(c.eos_token_ids, (std::vector<std::int32_t>{1, 2}));
  EXPECT_EQ(c.temperature, 0.6);
  EXPECT_FALSE(c.top_k);
  try {
    parse_generation_config(Json::parse(R"({"eos_token_id": "x", "temperature": "hot"})"), "g");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(),
                ::testing::AllOf(HasSubstr("g: eos_token_id is \"x\""), HasSubstr("g: temperature is \"hot\"")));
  }
}

TEST(Json, FilesAreReplacedWholeOrNotAtAll) {
  const TemporaryDirectory dir;
  write_text_file_atomically(dir.path() / "f", "one");
  write_text_file_atomically(dir.path() / "f", "two");
  EXPECT_EQ(read_text_file(dir.path() / "f"), "two");
  EXPECT_THROW(write_text_file_atomically(dir.path() / "no/such/f", "x"), Error);
  EXPECT_THROW(read_text_file(dir.path()), Error);
  EXPECT_THROW(read_text_file("/dev/zero", 1000), Error);
}

}  // namespace
}  // namespace hadal::io
