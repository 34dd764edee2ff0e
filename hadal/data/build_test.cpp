#include "hadal/data/build.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "hadal/data/exchange.h"
#include "hadal/data/tokenizer_identity.h"
#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::data {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

const tokenizer::Tokenizer& mini_tokenizer() {
  static const auto loaded = tokenizer::Tokenizer::load(fs::path(HADAL_SOURCE_DIR) / "models/mini");
  return loaded;
}

class Build : public testing::Test {
 protected:
  Build() {
    options_.fim_rate = 0;
    options_.documents.division = Division::kLines;
  }

  fs::path file(const std::string& name, const std::string& text) {
    std::ofstream(folder_.path() / name, std::ios::binary) << text;
    return folder_.path() / name;
  }
  DatasetInfo build(const std::string& name = "out", const Progress& progress = {}) {
    return build_dataset(mini_tokenizer(), "mini", folder_.path() / name, options_, progress);
  }
  std::string refused(const Progress& progress = {}) {
    return test::said([&] { build("out", progress); });
  }
  // The documents of a source and split as text, special tokens spelled out.
  std::vector<std::string> documents(const std::string& name, std::size_t source = 0, Split split = Split::kTrain) {
    const Dataset data(folder_.path() / name);
    std::vector<std::string> out;
    for (const auto& shard : data.shards(source, split))
      for (std::uint64_t i = 0; i < shard->documents(); ++i) {
        std::vector<TokenId> ids(shard->begin_of(i + 1) - shard->begin_of(i));
        shard->read(shard->begin_of(i), ids);
        out.push_back(mini_tokenizer().decode(ids));
      }
    return out;
  }
  std::map<std::string, std::string> bytes(const std::string& name) {
    std::map<std::string, std::string> out;
    for (const auto& e : fs::directory_iterator(folder_.path() / name))
      out[e.path().filename().string()] = io::read_text_file(e.path());
    return out;
  }

  test::TemporaryDirectory folder_;
  BuildOptions options_;
};

// Lines "0 words", "1 words", ... of different lengths.
std::string many_lines(int count) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    out += std::to_string(i);
    for (int j = 0; j < i * 7 % 31; ++j) out += " word";
    out += "\n";
  }
  return out;
}

TEST_F(Build, WritesEveryDocumentWithItsEnd) {
  options_.sources = {{"a", {file("a", "The sea.\n \nIt is <｜end▁of▁sentence｜>\nThe sea.\n")}, {}, {}}};
  const DatasetInfo info = build();
  EXPECT_THAT(documents("out"),
              ElementsAre("The sea.<｜end▁of▁sentence｜>", "It is <｜end▁of▁sentence｜><｜end▁of▁sentence｜>"));
  const SourceInfo& s = info.sources[0];
  EXPECT_EQ(s.documents_read, 4u);
  EXPECT_EQ(s.duplicates, 1u);
  EXPECT_EQ(s.empty, 1u);
  EXPECT_EQ(s.train.text_bytes, 8u + 6 + 27);
  EXPECT_EQ(info.eos, 1);
  EXPECT_FALSE(info.bos);
  // What the text spells is no control token.
  const Dataset data(folder_.path() / "out");
  std::vector<TokenId> ids(s.train.tokens);
  data.shards(0, Split::kTrain)[0]->read(0, ids);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 1), 2);
}

TEST_F(Build, BeginAndEndTokensAreOptions) {
  options_.sources = {{"a", {file("a", "The sea.")}, {}, {}}};
  options_.bos = true;
  options_.eos = false;
  EXPECT_EQ(build().bos, 0);
  EXPECT_THAT(documents("out"), ElementsAre("<｜begin▁of▁sentence｜>The sea."));
}

TEST_F(Build, DuplicatesAreDroppedWithinAndAcrossSources) {
  options_.sources = {{"a", {file("a", "one\ntwo\none\n"), file("a2", "two\nthree")}, {}, {}},
                      {"b", {file("b", "three\nfour\n")}, {}, {}}};
  options_.eos = false;
  const DatasetInfo info = build();
  EXPECT_THAT(documents("out", 0), ElementsAre("one", "two", "three"));
  EXPECT_THAT(documents("out", 1), ElementsAre("four"));
  EXPECT_EQ(info.sources[0].duplicates, 2u);
  EXPECT_EQ(info.sources[1].duplicates, 1u);
  options_.keep_duplicates = true;
  build("kept");
  EXPECT_THAT(documents("kept", 0), ElementsAre("one", "two", "one", "two", "three"));
  options_.keep_duplicates = false;
  options_.sources.push_back({"c", {file("c", "one\n")}, {}, {}});
  options_.overwrite = true;
  EXPECT_THAT(refused(), HasSubstr("source c: its 1 file has no text that was not there before"));
}

TEST_F(Build, ValidationIsASplitByTheTextAlone) {
  options_.eos = false;
  options_.validation = 0.2;
  options_.sources = {{"a", {file("a", many_lines(2000))}, {}, {}}};
  build("both");
  const auto validation = documents("both", 0, Split::kValidation);
  EXPECT_NEAR(static_cast<double>(validation.size()), 400, 80);  // four and a half standard deviations
  EXPECT_EQ(validation.size() + documents("both").size(), 2000u);
  // Whatever else there is, and in whatever order.
  std::string reversed;
  auto some = validation;
  std::reverse(some.begin(), some.end());
  for (std::size_t i = 0; i < some.size(); ++i) reversed += some[i] + "\nmore " + std::to_string(i) + "\n";
  options_.sources = {{"a", {file("a", reversed)}, {}, {}}};
  options_.seed = 9;
  build("other");
  const auto again = documents("other", 0, Split::kValidation);
  for (const std::string& text : some) EXPECT_THAT(again, testing::Contains(text));
}

TEST_F(Build, ValidationHasNoFim) {
  options_.validation = 0.5;
  options_.fim_rate = 1;
  options_.sources = {{"a", {file("a", many_lines(50))}, {}, {}}};
  const DatasetInfo info = build();
  EXPECT_EQ(info.sources[0].validation.fim_documents, 0u);
  EXPECT_GT(info.sources[0].train.fim_documents, 15u);
  for (const auto& text : documents("out", 0, Split::kValidation)) EXPECT_THAT(text, testing::Not(HasSubstr("fim")));
  for (const auto& text : documents("out"))
    if (text.find('w') != text.npos) {
      EXPECT_THAT(text, testing::StartsWith("<｜fim▁begin｜>"));
      EXPECT_THAT(text, testing::EndsWith("<｜end▁of▁sentence｜>"));
    }
}

TEST_F(Build, IsTheSameBytesForAnyNumberOfThreads) {
  options_.fim_rate = 0.3;
  options_.validation = 0.1;
  options_.shard_bytes = 5000;
  options_.sources = {{"a", {file("a", many_lines(3000))}, 1, {}}, {"b", {file("b", many_lines(3500))}, 2, 3}};
  for (const int threads : {1, 2, 5}) {
    options_.threads = threads;
    build(std::to_string(threads));
  }
  EXPECT_GT(bytes("1").size(), 10u);
  EXPECT_EQ(bytes("1"), bytes("2"));
  EXPECT_EQ(bytes("1"), bytes("5"));
}

TEST_F(Build, TextThatIsNoneIsRefusedLeftOutOrRepaired) {
  options_.eos = false;
  options_.sources = {{"a", {file("a", "one\nt\xFFo\nthree\n")}, {}, {}}};
  EXPECT_THAT(refused(), HasSubstr("a, line 2: byte 1 (0xFF) is not UTF-8; is it a text?"));
  EXPECT_TRUE(!fs::exists(folder_.path() / "out") && !fs::exists(folder_.path() / "out.partial"));
  options_.invalid = InvalidText::kSkip;
  EXPECT_EQ(build("skip").sources[0].invalid, 1u);
  EXPECT_THAT(documents("skip"), ElementsAre("one", "three"));
  options_.invalid = InvalidText::kReplace;
  EXPECT_EQ(build("replace").sources[0].invalid, 1u);
  EXPECT_THAT(documents("replace"), ElementsAre("one", "t\xEF\xBF\xBDo", "three"));
  options_.invalid = InvalidText::kFail;
  options_.sources = {{"a", {file("a", std::string("on\0e", 4))}, {}, {}}};
  EXPECT_THAT(refused(), HasSubstr("a, line 1: byte 2 is zero"));
}

TEST_F(Build, WithoutTextIsRefused) {
  options_.sources = {{"a", {file("a", "")}, {}, {}}};
  EXPECT_THAT(refused(), HasSubstr("source a: its 1 file has no text"));
  options_.sources = {{"a", {folder_.path() / "none"}, {}, {}}};
  EXPECT_THAT(refused(), HasSubstr("none: there is no such file"));
  EXPECT_FALSE(fs::exists(folder_.path() / "out.partial"));
}

TEST_F(Build, InterruptedLeavesWhatWasThere) {
  options_.sources = {{"a", {file("a", many_lines(100))}, {}, {}}};
  build();
  const auto before = bytes("out");
  EXPECT_THAT(refused(), HasSubstr("exists already; --overwrite replaces it"));
  options_.overwrite = true;
  options_.sources = {{"a", {file("a", many_lines(20000))}, {}, {}}};
  int steps = 0;
  EXPECT_THAT(refused([&](std::uint64_t, std::uint64_t) { return ++steps < 2; }), HasSubstr("interrupted"));
  EXPECT_EQ(steps, 2);
  EXPECT_EQ(bytes("out"), before);
  EXPECT_FALSE(fs::exists(folder_.path() / "out.partial"));
  build();
  EXPECT_EQ(documents("out").size(), 20000u);
  EXPECT_FALSE(fs::exists(folder_.path() / "out.partial"));
  EXPECT_FALSE(fs::exists(folder_.path() / "out/lock"));
}

TEST_F(Build, WhatAKilledRunLeftIsReplacedAndWhatOthersLeftIsNot) {
  options_.sources = {{"a", {file("a", "one")}, {}, {}}};
  fs::create_directory(folder_.path() / "out.partial");
  file("out.partial/a-train-00000.tokens.tmp77", "x");
  file("out.partial/lock", "");
  build();
  EXPECT_EQ(bytes("out").size(), 2u);
  fs::create_directory(folder_.path() / "other");
  file("other/letter.txt", "x");
  options_.overwrite = true;
  EXPECT_THAT(test::said([&] { build("other"); }), HasSubstr("exists and is no data set"));
  file("out/letter.txt", "x");
  EXPECT_THAT(refused(), HasSubstr("or holds other files too"));
  fs::create_directory(folder_.path() / "third.partial");
  file("third.partial/letter.txt", "x");
  EXPECT_THAT(test::said([&] { build("third"); }), HasSubstr("holds other files than an interrupted run's"));
}

TEST_F(Build, ADataSetKnowsItsTokenizerAndItsShards) {
  options_.sources = {{"a", {file("a", "one\ntwo")}, {}, {}}};
  build();
  options_.sources = {{"a", {file("a", "two\none")}, {}, {}}};
  build("other");
  const auto v3 = tokenizer::Tokenizer::load(fs::path(HADAL_TEST_DATA) / "tokenizer/deepseek-v3");
  const Dataset data(folder_.path() / "out");
  data.check_tokenizer(tokenizer_identity(mini_tokenizer()), "mini");
  EXPECT_THAT(test::said([&] { data.check_tokenizer(tokenizer_identity(v3), "v3"); }),
              HasSubstr("was built with another tokenizer than v3's"));
  EXPECT_NE(data.digest(), Dataset(folder_.path() / "other").digest());
  fs::copy_file(folder_.path() / "other/a-train-00000.tokens", folder_.path() / "out/a-train-00000.tokens",
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(test::said([&] { Dataset(folder_.path() / "out"); }), HasSubstr("is another file than the one"));
  fs::remove(folder_.path() / "out/a-train-00000.tokens");
  EXPECT_THAT(test::said([&] { Dataset(folder_.path() / "out"); }), HasSubstr("cannot be opened"));
  EXPECT_THAT(test::said([&] { Dataset(folder_.path()); }), HasSubstr("has no dataset.json"));
}

TEST_F(Build, DatasetInfoIsChecked) {
  options_.validation = 0.5;
  options_.sources = {{"a", {file("a", many_lines(9))}, 2, 1.5}};
  const std::string good = to_json(build()).dump();
  EXPECT_EQ(to_json(parse_dataset_info(good, "d")).dump(), good);
  const auto said = [&](auto change) {
    io::Json json = io::parse_json(good, "d");
    change(json);
    return test::said([&] { parse_dataset_info(json.dump(), "d"); });
  };
  EXPECT_THAT(said([](auto& j) { j["format"] = "x"; }), HasSubstr("d: is not what `hadal data build` writes"));
  EXPECT_THAT(said([](auto& j) { j["version"] = 2u; }), HasSubstr("version 2"));
  EXPECT_THAT(said([](auto& j) { j["vocab_size"] = 0u; }), HasSubstr("vocab_size is 0"));
  EXPECT_THAT(said([](auto& j) { j["tokenizer"] = "00"; }), HasSubstr("64 hexadecimal digits"));
  EXPECT_THAT(said([](auto& j) { j["eos"] = 4096u; }), HasSubstr("eos is 4096, ids are below 4096"));
  EXPECT_THAT(said([](auto& j) { j["sources"] = io::Json::array(); }), HasSubstr("has no sources"));
  EXPECT_THAT(said([](auto& j) { j["sources"][0].erase("train"); }), HasSubstr("train is missing"));
  EXPECT_THAT(said([](auto& j) { j["sources"][0]["weight"] = -1; }), HasSubstr("weight is -1"));
  EXPECT_THAT(said([](auto& j) { j["sources"][0]["train"]["tokens"] = 1u; }), HasSubstr("a.train: its shards have"));
  EXPECT_THAT(said([](auto& j) { j["sources"][0]["train"]["shards"][0]["file"] = "../x"; }),
              HasSubstr("../x is no name of a file"));
  EXPECT_THAT(test::said([&] { parse_dataset_info("[]", "d"); }), HasSubstr("d: an object was expected"));
}

TEST_F(Build, GoesThroughMegatronAndBack) {
  options_.validation = 0.2;
  options_.fim_rate = 0.2;
  options_.shard_bytes = 3000;
  options_.sources = {{"a", {file("a", many_lines(500))}, {}, {}}};
  build();
  const fs::path prefix = folder_.path() / "m";
  EXPECT_EQ(export_megatron(Dataset(folder_.path() / "out"), "a", Split::kTrain, prefix), documents("out").size());
  ImportOptions options;
  options.sources = {{"a", {prefix}, {}, {}}};
  const DatasetInfo info = import_megatron(mini_tokenizer(), "mini", folder_.path() / "back", options);
  EXPECT_EQ(documents("back"), documents("out"));
  EXPECT_EQ(info.eos, 1);
  const Dataset data(folder_.path() / "out");
  EXPECT_THAT(test::said([&] { export_megatron(data, "b", Split::kTrain, prefix); }), HasSubstr("has no source b"));
}

TEST_F(Build, ImportedIdsMustBeTheTokenizers) {
  ImportOptions options;
  options.sources = {{"a", {fs::path(HADAL_TEST_DATA) / "megatron/wide"}, {}, {}}};
  const auto import = [&](const char* name) {
    import_megatron(mini_tokenizer(), "mini", folder_.path() / name, options);
  };
  EXPECT_THAT(test::said([&] { import("out"); }), HasSubstr("wide.bin, document 0: holds 65499 at [2], ids are below"));
  EXPECT_FALSE(fs::exists(folder_.path() / "out"));
  options.sources = {{"a", {fs::path(HADAL_TEST_DATA) / "megatron/several"}, {}, {}}};
  import("several");
  EXPECT_EQ(Dataset(folder_.path() / "several").info().sources[0].empty, 1u);
  EXPECT_EQ(Dataset(folder_.path() / "several").info().eos, std::nullopt);  // not all end with it
}

}  // namespace
}  // namespace hadal::data
