#include "hadal/data/documents.h"

#include <gmock/gmock.h>

#include <fstream>

#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class DocumentFiles : public testing::Test {
 protected:
  std::vector<std::string> read(const std::string& bytes, std::optional<Division> division,
                                const std::string& name = "f.txt", const std::string& field = "text") {
    const auto path = folder_.path() / name;
    std::ofstream(path, std::ios::binary) << bytes;
    DocumentReader reader(path, {division, field});
    std::vector<std::string> out;
    where_.clear();
    for (Document d; reader.next(d);) {
      out.push_back(d.text);
      where_.push_back(d.where.substr(d.where.rfind('/') + 1));
    }
    return out;
  }
  std::string refused(const std::string& bytes, const std::string& field = "text") {
    return test::said([&] { read(bytes, Division::kJsonl, "f.jsonl", field); });
  }

  test::TemporaryDirectory folder_;
  std::vector<std::string> where_;
};

TEST_F(DocumentFiles, AreDividedAsAsked) {
  const std::string text = "one\ntwo\r\n\n \t\nthree\n\nfour";
  EXPECT_THAT(read(text, Division::kFile), ElementsAre(text));
  EXPECT_THAT(where_, ElementsAre("f.txt"));
  EXPECT_THAT(read(text, Division::kLines), ElementsAre("one", "two", "", " \t", "three", "", "four"));
  EXPECT_THAT(read(text, Division::kBlankLines), ElementsAre("one\ntwo", "three", "four"));
  EXPECT_THAT(where_, ElementsAre("f.txt, line 1", "f.txt, line 5", "f.txt, line 7"));
  EXPECT_THAT(read("", Division::kFile), ElementsAre(""));
  EXPECT_THAT(read("", Division::kLines), ElementsAre());
  EXPECT_THAT(read("\n\n", Division::kBlankLines), ElementsAre());
  EXPECT_THAT(read("x\n", Division::kLines), ElementsAre("x"));
}

TEST_F(DocumentFiles, AreJsonlByTheirName) {
  const std::string text = R"({"text": "one"})";
  EXPECT_THAT(read(text, {}, "f.jsonl"), ElementsAre("one"));
  EXPECT_THAT(read(text, {}, "f.ndjson"), ElementsAre("one"));
  EXPECT_THAT(read(text, {}, "f.json"), ElementsAre(text));
  EXPECT_THAT(read(text, Division::kLines, "f.jsonl"), ElementsAre(text));
}

TEST_F(DocumentFiles, LinesMayBeLongerThanWhatIsReadAtATime) {
  const std::string a(3000001, 'a'), b(1 << 20, 'b');
  EXPECT_THAT(read(a + "\n" + b + "\n" + a, Division::kLines), ElementsAre(a, b, a));
  EXPECT_THAT(read(a, Division::kFile), ElementsAre(a));
}

TEST_F(DocumentFiles, MayHaveAByteOrderMark) {
  EXPECT_THAT(read("\xEF\xBB\xBFone\n\xEF\xBB\xBFtwo", Division::kLines), ElementsAre("one", "\xEF\xBB\xBFtwo"));
  EXPECT_THAT(read("\xEF\xBB\xBFone", Division::kFile), ElementsAre("one"));
  EXPECT_THAT(test::said([&] { read(std::string("\xFF\xFEo\0n\0", 6), Division::kFile); }), HasSubstr("is UTF-16"));
}

TEST_F(DocumentFiles, ReadTheTextFieldOfJsonl) {
  EXPECT_THAT(read("{\"id\": 1, \"text\": \"a\\n\\u00e9\\ud83d\\ude00\"}\n\n{\"text\": \"\"}\r\n", Division::kJsonl),
              ElementsAre("a\n\xC3\xA9\xF0\x9F\x98\x80", ""));
  EXPECT_THAT(where_, ElementsAre("f.txt, line 1", "f.txt, line 3"));
  EXPECT_THAT(read(R"({"text": 1, "content": "b"})", Division::kJsonl, "f.jsonl", "content"), ElementsAre("b"));
}

TEST_F(DocumentFiles, SayWhichLineOfJsonlIsWrong) {
  EXPECT_THAT(refused("{\"text\": \"a\"}\n{\"text\": }"), HasSubstr("f.jsonl, line 2: not valid JSON"));
  EXPECT_THAT(refused("{\"text\": \"a"), HasSubstr("line 1: not valid JSON"));
  EXPECT_THAT(refused("[1]"), HasSubstr("line 1: an object was expected"));
  EXPECT_THAT(refused("{\"text\": 7}"), HasSubstr("line 1: text is not text"));
  EXPECT_THAT(refused("{\"content\": \"a\", \"id\": 3}"),
              HasSubstr("line 1: has no field text, it has content, id; name it by --text-field"));
  EXPECT_THAT(refused("{\"text\": \"\xFF\"}"), HasSubstr("line 1: not valid JSON"));
}

}  // namespace
}  // namespace hadal::data
