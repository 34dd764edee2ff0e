#include "hadal/data/sources.h"

#include <gmock/gmock.h>

#include <fstream>

#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::data {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Sources, AreReadFromOptions) {
  const SourceSpec s = parse_source_spec("books=/data/b=c,weight=2.5,epochs=3");
  EXPECT_EQ(s.name, "books");
  EXPECT_THAT(s.inputs, ElementsAre("/data/b=c"));
  EXPECT_EQ(s.weight, 2.5);
  EXPECT_EQ(s.epochs, 3);
  EXPECT_FALSE(parse_source_spec("a=b").weight);
  const auto said = [](const char* text) { return test::said([&] { parse_source_spec(text); }); };
  for (const char* text : {"", "books", "=b", "a=", "a=b,", "a=b,,weight=1"})
    EXPECT_THAT(said(text), HasSubstr("NAME=PATH was expected")) << text;
  EXPECT_THAT(said("a=b,wieght=1"), HasSubstr("--source a=b,wieght=1: wieght is not known; weight and epochs are"));
  EXPECT_THAT(said("a=b,weight=x"), HasSubstr("x is not a number"));
  EXPECT_THAT(said("a=b,weight=1x"), HasSubstr("1x is not a number"));
  for (const char* text : {"a=b,weight=0", "a=b,epochs=-1", "a=b,weight=nan", "a=b,weight=inf"})
    EXPECT_THAT(said(text), HasSubstr("a number above 0 was expected")) << text;
}

class SourceFiles : public testing::Test {
 protected:
  std::vector<SourceSpec> read(const std::string& text) {
    std::ofstream(folder_.path() / "s.toml") << text;
    return read_source_file(folder_.path() / "s.toml");
  }
  std::string refused(const std::string& text) {
    return test::said([&] { read(text); });
  }
  test::TemporaryDirectory folder_;
};

TEST_F(SourceFiles, AreToml) {
  const auto s = read(
      "[[source]]\nname = \"a\"\npath = \"x\"\nweight = 2\n[[source]]\nname = \"b\"\npath = [\"y\", \"/z\"]\n"
      "weight = 0.5\nepochs = 1.5\n");
  ASSERT_EQ(s.size(), 2u);
  EXPECT_EQ(s[0].name, "a");
  EXPECT_THAT(s[0].inputs, ElementsAre(folder_.path() / "x"));
  EXPECT_EQ(s[0].weight, 2);
  EXPECT_THAT(s[1].inputs, ElementsAre(folder_.path() / "y", "/z"));
  EXPECT_EQ(s[1].epochs, 1.5);
}

TEST_F(SourceFiles, SayWhichLineIsWrong) {
  EXPECT_THAT(refused("x ="), HasSubstr("s.toml, line 1: not valid TOML"));
  EXPECT_THAT(refused("\nx = 1"), HasSubstr("line 2: x is not known; [[source]] is"));
  EXPECT_THAT(refused("source = 1"), HasSubstr("must be a list of tables"));
  EXPECT_THAT(refused("source = [1]"), HasSubstr("must be a list of tables"));
  EXPECT_THAT(refused(""), HasSubstr("has no [[source]]"));
  EXPECT_THAT(refused("[[source]]\npath = \"x\""), HasSubstr("line 1: the source has no name"));
  EXPECT_THAT(refused("[[source]]\nname = \"x\""), HasSubstr("source x has no path"));
  EXPECT_THAT(refused("[[source]]\nname = 1"), HasSubstr("line 2: name must be text"));
  EXPECT_THAT(refused("[[source]]\npath = [1]"), HasSubstr("line 2: path must be text or a list"));
  EXPECT_THAT(refused("[[source]]\nweight = \"x\""), HasSubstr("line 2: weight must be a number"));
  EXPECT_THAT(refused("[[source]]\nweight = -1"), HasSubstr("line 2: weight is -1, a number above 0"));
  EXPECT_THAT(refused("[[source]]\nwieght = 1"), HasSubstr("line 2: wieght is not known"));
}

TEST_F(SourceFiles, OfADirectoryAreSortedAndNotHidden) {
  for (const char* name : {"b", "a", ".hidden", "c/d", ".git/e"}) {
    fs::create_directories((folder_.path() / name).parent_path());
    std::ofstream(folder_.path() / name) << "x";
  }
  const fs::path& d = folder_.path();
  EXPECT_THAT(source_files({"s", {d, "elsewhere"}, {}, {}}), ElementsAre(d / "a", d / "b", d / "c/d", "elsewhere"));
  fs::create_directory(d / "empty");
  EXPECT_THAT(test::said([&] { source_files({"s", {d / "empty"}, {}, {}}); }), HasSubstr("has no files"));
}

TEST(Sources, MustFitTogether) {
  const auto said = [](std::vector<SourceSpec> s) { return test::said([&] { check_sources(s); }); };
  EXPECT_EQ(said({{"a", {"x"}, 1, {}}, {"b", {"y"}, 2, 1}}), "nothing");
  EXPECT_THAT(said({}), HasSubstr("nothing to build from"));
  EXPECT_THAT(said({{"a", {}, {}, {}}, {"a", {}, {}, {}}}), HasSubstr("source a: is named twice"));
  EXPECT_THAT(said({{"a", {}, {}, {}}, {"b", {}, 1, {}}}), HasSubstr("source b: has a weight and source a has none"));
  for (const char* name : {"a/b", "", ".a", "a b"})
    EXPECT_THAT(said({{name, {}, {}, {}}}), HasSubstr("a name has letters")) << name;
}

}  // namespace
}  // namespace hadal::data
