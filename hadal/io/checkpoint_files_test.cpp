#include "hadal/io/checkpoint_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "hadal/core/error.h"
#include "hadal/io/checkpoint_identity.h"
#include "hadal/io/generation_config.h"
#include "hadal/io/json.h"
#include "hadal/io/unfinished_files.h"
#include "tests/support/temporary_directory.h"

namespace hadal::io {
namespace checkpoint_files_test {
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

TEST(CheckpointFiles, WithoutAnIndexShardsAreTakenIfTheyCountUpToTheirTotal) {
  const TemporaryDirectory dir;
  write_file(dir.path() / "model-00002-of-000003.safetensors", {"b"});
  write_file(dir.path() / "model-00001-of-000003.safetensors", {"a"});
  write_file(dir.path() / "golden.safetensors", {"other"});
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "model-00003-of-000003.safetensors"));
  EXPECT_THAT(error_of(dir.path()), HasSubstr("has 2 of the 3 shards model-*, the one with number 3 is missing"));
  write_file(dir.path() / "model-00003-of-000003.safetensors", {"c"});
  EXPECT_EQ(CheckpointFiles(dir.path()).names(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(CheckpointFiles::exist(dir.path()));
  write_file(dir.path() / "model-00003-of-000003.safetensors", {"c", "a"});
  EXPECT_THAT(error_of(dir.path()), HasSubstr("has tensor a, which model-00001-of-000003.safetensors has too"));
  write_file(dir.path() / "other-1-of-1.safetensors", {"d"});
  EXPECT_THAT(error_of(dir.path()), HasSubstr("belong to 2 different sets"));
}

TEST(CheckpointFiles, OtherFormatsAreNamed) {
  const TemporaryDirectory dir;
  std::ofstream(dir.path() / "pytorch_model.bin") << "x";
  EXPECT_THAT(error_of(dir.path()), HasSubstr("pytorch_model.bin is a PyTorch file"));
  EXPECT_FALSE(CheckpointFiles::exist(dir.path()));
}

TEST(CheckpointFiles, TensorsAreFoundUnderOtherNamesAndInParts) {
  const TemporaryDirectory dir;
  {
    SafetensorsWriter writer(dir.path() / "model.safetensors",
                             {{"w", DType::kF32, {2}}, {"stack", DType::kF32, {2, 3, 2}}});
    Tensor w = Tensor::zeros(DType::kF32, {2}), stack(DType::kF32, {2, 3, 2});
    for (int i = 0; i < 12; ++i) stack->data<float>()[i] = static_cast<float>(i);
    writer.write(w);
    writer.write(stack);
    writer.finish();
  }
  CheckpointFiles files(dir.path());
  files.rename("w", "model.w");
  files.add_view("second", "stack", 6, {3, 2});
  files.add_view("first", "stack", 0, {3, 2});
  EXPECT_THROW(files.add_view("third", "stack", 8, {3, 2}), Error);
  EXPECT_THROW(files.rename("model.w", "first"), Error);
  files.hide("stack");
  EXPECT_EQ(files.names(), (std::vector<std::string>{"first", "model.w", "second"}));
  EXPECT_EQ(files.find("second").data<float>()[5], 11);
  EXPECT_EQ(files.info("first")->shape, Shape({3, 2}));
  EXPECT_TRUE(files.has_prefix("model.") && !files.has_prefix("stack"));
  std::vector<std::string> order;
  for (const auto& [shard, info] : files.in_file_order()) order.push_back(info->name);
  EXPECT_EQ(order, (std::vector<std::string>{"model.w", "first", "second"}));
  EXPECT_EQ(files.total_bytes(), 56u);
}

TEST(CheckpointFiles, TensorsThatTheIndexLeavesOutAreNamed) {
  const TemporaryDirectory dir;
  write_file(dir.path() / "a.safetensors", {"w", "v"});
  std::ofstream(dir.path() / "model.safetensors.index.json") << R"({"weight_map":{"w":"a.safetensors"}})";
  EXPECT_EQ(CheckpointFiles(dir.path()).not_in_index(), std::vector<std::string>{"v (a.safetensors)"});
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

TEST(FileDigest, IsThatOfAllBytesHoweverManyBlocksTheyAre) {
  const TemporaryDirectory dir;
  for (const std::size_t size : {std::size_t{0}, std::size_t{5}, std::size_t{1} << 20, (std::size_t{2} << 20) + 7}) {
    std::string text(size, 'a');
    for (std::size_t i = 0; i < size; i += 997) text[i] = static_cast<char>(i);
    write_text_file_atomically(dir.path() / "f", text);
    EXPECT_EQ(file_digest(dir.path() / "f"), Sha256().bytes(std::as_bytes(std::span(text))).finish()) << size;
  }
  EXPECT_EQ(to_hex(Sha256().finish()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_THROW(file_digest(dir.path()), Error);
  EXPECT_THROW(file_digest(dir.path() / "none"), Error);
}

TEST(UnfinishedFiles, ThoseOfOneFileGoAndNoOthers) {
  const TemporaryDirectory dir;
  for (const char* name : {"f.toml", "f.toml.tmp1", "f.toml.tmp98765", "f.toml.tmp", "f.toml.tmp1x", "f.toml.tmpx1", "f.toml.bak1",
                           "g.toml.tmp1", "ff.toml.tmp1", "f.toml.tmp1.tmp1"})
    std::ofstream(dir.path() / name) << "x";
  remove_unfinished(dir.path() / "f.toml");
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path())) left.push_back(entry.path().filename());
  EXPECT_THAT(left, ::testing::UnorderedElementsAre("f.toml", "f.toml.tmp", "f.toml.tmp1x", "f.toml.tmpx1", "f.toml.bak1",
                                                    "g.toml.tmp1", "ff.toml.tmp1", "f.toml.tmp1.tmp1"));
  remove_unfinished(dir.path() / "no/such");
}

}  // namespace
}  // namespace checkpoint_files_test
}  // namespace hadal::io
