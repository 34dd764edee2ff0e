#include "hadal/data/text_file.h"

#include <gmock/gmock.h>
#include <zlib.h>
#include <zstd.h>

#include <fstream>

#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::data {
namespace {

using testing::HasSubstr;

std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

// A text that does not become small.
std::string noise(std::size_t bytes) {
  std::string out;
  std::uint32_t x = 1;
  while (out.size() < bytes) out += static_cast<char>('a' + ((x = x * 1664525u + 1013904223u) >> 24) % 26);
  return out;
}

class TextFiles : public testing::Test {
 protected:
  std::string read(const std::string& bytes, const std::string& name = "f", std::size_t piece = 1000) {
    const auto path = folder_.path() / name;
    std::ofstream(path, std::ios::binary) << bytes;
    TextFile file(path);
    std::string out;
    std::vector<char> buffer(piece);
    while (const std::size_t n = file.read(buffer)) out.append(buffer.data(), n);
    EXPECT_EQ(file.consumed(), bytes.size());
    return out;
  }
  std::string refused(const std::string& bytes, const std::string& name = "f") {
    return test::said([&] { read(bytes, name); });
  }

  test::TemporaryDirectory folder_;
};

TEST_F(TextFiles, AreUnpackedByWhatTheyBeginWith) {
  const std::string text = noise(1000003);
  for (const std::size_t piece : {std::size_t{7}, std::size_t{1000}, std::size_t{1} << 22}) {
    EXPECT_EQ(read(text, "f", piece), text);
    EXPECT_EQ(read(gzip(text), "f", piece), text);
    EXPECT_EQ(read(zstd(text), "f", piece), text);
  }
  EXPECT_EQ(read(""), "");
  EXPECT_EQ(read(gzip("")), "");
  EXPECT_EQ(read(zstd("")), "");
}

TEST_F(TextFiles, MayBePutTogether) {
  EXPECT_EQ(read(gzip("one, ") + gzip("") + gzip("two")), "one, two");
  EXPECT_EQ(read(gzip("one") + std::string(512, '\0')), "one");  // padding
  EXPECT_EQ(read(zstd("one, ") + zstd("") + zstd("two")), "one, two");
  EXPECT_EQ(read(std::string("\x50\x2A\x4D\x18\x03\0\0\0abc", 11) + zstd("one")), "one");  // a frame to be skipped
}

TEST_F(TextFiles, CutOffAnywhereIsNoticed) {
  const std::string text = noise(400), g = gzip(text), z = zstd(text);
  for (std::size_t i = 2; i < g.size(); ++i) EXPECT_THAT(refused(g.substr(0, i)), HasSubstr("is cut off")) << i;
  for (std::size_t i = 4; i < z.size(); ++i) EXPECT_THAT(refused(z.substr(0, i)), HasSubstr("is cut off")) << i;
  // In the middle of a later member, and of a file of several blocks.
  EXPECT_THAT(refused(g + g.substr(0, g.size() / 2)), HasSubstr("is cut off"));
  EXPECT_THAT(refused(z + z.substr(0, z.size() / 2)), HasSubstr("is cut off"));
  const std::string large = gzip(noise(2000000));
  EXPECT_THAT(refused(large.substr(0, large.size() - 4)), HasSubstr("is cut off"));
}

TEST_F(TextFiles, DamageIsNoticed) {
  std::string g = gzip(noise(400)), z = zstd(noise(400));
  g[g.size() / 2] ^= 1;
  z[8] ^= 64;
  EXPECT_THAT(refused(g), HasSubstr("gzip data is damaged"));
  EXPECT_THAT(refused(z), HasSubstr("is damaged"));
  EXPECT_THAT(refused(gzip("one") + "no gzip"), HasSubstr("gzip data is damaged"));
  EXPECT_THAT(refused(zstd("one") + "no zstd"), HasSubstr("zstd data is damaged"));
}

TEST_F(TextFiles, OtherPackersAreNamed) {
  EXPECT_THAT(refused("\xFD\x37zXZ and more"), HasSubstr("packed by xz, this reads gzip and zstd"));
  EXPECT_THAT(refused("BZh91AY"), HasSubstr("bzip2"));
  EXPECT_THAT(refused("text", "f.gz"), HasSubstr("does not begin as a .gz file does"));
  EXPECT_THAT(refused("", "f.zst"), HasSubstr("does not begin as a .zst file does"));
  EXPECT_THAT(test::said([&] { TextFile(folder_.path() / "none"); }), HasSubstr("cannot be opened: No such file"));
  EXPECT_THAT(test::said([&] { TextFile(folder_.path()); }), HasSubstr("is a directory"));
}

}  // namespace
}  // namespace hadal::data
