#include "hadal/data/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "hadal/core/error.h"

namespace hadal::data {
namespace {

constexpr std::size_t kPackedBlock = std::size_t{1} << 18;

}  // namespace

class TextFile::Blocks {
 public:
  explicit Blocks(const std::filesystem::path& path) : path_(path), block_(kPackedBlock) {
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    HADAL_CHECK(fd_ >= 0, "{}: cannot be opened: {}", path.string(), std::strerror(errno));
    struct stat about{};
    const bool directory = ::fstat(fd_, &about) == 0 && S_ISDIR(about.st_mode);
    if (directory) ::close(std::exchange(fd_, -1));
    HADAL_CHECK(!directory, "{}: is a directory, a file was expected", path.string());
  }
  ~Blocks() {
    if (fd_ >= 0) ::close(fd_);
  }
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;

  // What was read and not yet taken; reads more if there is nothing. Empty at the end.
  std::string_view rest() {
    if (begin_ == end_) refill();
    return {block_.data() + begin_, end_ - begin_};
  }
  void take(std::size_t bytes) { begin_ += bytes; }
  std::uint64_t taken() const { return read_ - (end_ - begin_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  void refill() {
    begin_ = end_ = 0;
    // A whole block where there is one (a pipe gives less), so that the first one tells the format.
    while (end_ < block_.size()) {
      const ssize_t n = ::read(fd_, block_.data() + end_, block_.size() - end_);
      if (n < 0 && errno == EINTR) continue;
      HADAL_CHECK(n >= 0, "{}: cannot be read: {}", path_.string(), std::strerror(errno));
      if (n == 0) break;
      end_ += static_cast<std::size_t>(n);
    }
    read_ += end_;
  }

  std::filesystem::path path_;
  int fd_ = -1;
  std::vector<char> block_;
  std::size_t begin_ = 0, end_ = 0;
  std::uint64_t read_ = 0;
};

class TextFile::Packing {
 public:
  virtual ~Packing() = default;
  virtual std::size_t read(Blocks& from, std::span<char> out) = 0;
};

namespace {

using Blocks = TextFile::Blocks;

class Plain : public TextFile::Packing {
 public:
  std::size_t read(Blocks& from, std::span<char> out) override {
    const std::string_view rest = from.rest().substr(0, out.size());
    std::copy(rest.begin(), rest.end(), out.begin());
    from.take(rest.size());
    return rest.size();
  }
};

// Members one after another, as gzip makes of files that are put together.
class Gzip : public TextFile::Packing {
 public:
  Gzip() { HADAL_CHECK(inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK, "zlib cannot be started"); }
  ~Gzip() override { inflateEnd(&stream_); }

  std::size_t read(Blocks& from, std::span<char> out) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(out.size());
    while (stream_.avail_out == out.size()) {
      std::string_view in = from.rest();
      if (in.empty()) {
        HADAL_CHECK(!inside_, "{}: is cut off: its gzip data has no end", from.path().string());
        return 0;
      }
      if (!inside_ && padded(from, in)) continue;
      inside_ = true;
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
      stream_.avail_in = static_cast<uInt>(in.size());
      const int status = inflate(&stream_, Z_NO_FLUSH);
      from.take(in.size() - stream_.avail_in);
      HADAL_CHECK(status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR, "{}: its gzip data is damaged: {}",
                  from.path().string(), stream_.msg ? stream_.msg : "not in the format");
      if (status != Z_STREAM_END) continue;
      inside_ = false;
      inflateReset(&stream_);
    }
    return out.size() - stream_.avail_out;
  }

 private:
  // Zeros behind the last member are padding, as on tapes.
  static bool padded(Blocks& from, std::string_view in) {
    const std::size_t zeros = std::min(in.find_first_not_of('\0'), in.size());
    from.take(zeros);
    return zeros > 0;
  }

  z_stream stream_{};
  bool inside_ = true;
};

class Zstd : public TextFile::Packing {
 public:
  Zstd() : stream_(ZSTD_createDStream()) { HADAL_CHECK(stream_, "zstd cannot be started"); }
  ~Zstd() override { ZSTD_freeDStream(stream_); }

  std::size_t read(Blocks& from, std::span<char> out) override {
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    while (to.pos == 0) {
      const std::string_view rest = from.rest();
      if (rest.empty() && inside_ == 0) return 0;
      ZSTD_inBuffer in{rest.data(), rest.size(), 0};
      inside_ = ZSTD_decompressStream(stream_, &to, &in);
      HADAL_CHECK(!ZSTD_isError(inside_), "{}: its zstd data is damaged: {}", from.path().string(),
                  ZSTD_getErrorName(inside_));
      from.take(in.pos);
      HADAL_CHECK(!rest.empty() || to.pos > 0, "{}: is cut off: its zstd data has no end", from.path().string());
    }
    return to.pos;
  }

 private:
  ZSTD_DStream* stream_;
  std::size_t inside_ = 1;  // 0 between two frames
};

bool is_zstd(std::string_view begin) {
  // A frame, or one that readers skip.
  return begin.starts_with("\x28\xB5\x2F\xFD") ||
         (begin.size() >= 4 && (begin[0] & 0xF0) == 0x50 && begin.substr(1, 3) == "\x2A\x4D\x18");
}

// What other packers begin with; to be unpacked by their own programs.
std::string_view foreign_packing(std::string_view begin) {
  if (begin.starts_with("\xFD\x37zXZ")) return "xz";
  if (begin.starts_with("BZh")) return "bzip2";
  if (begin.starts_with("PK\x03\x04")) return "zip";
  if (begin.starts_with("\x04\x22\x4D\x18")) return "lz4";
  return "";
}

std::unique_ptr<TextFile::Packing> packing_of(Blocks& blocks) {
  const std::string_view begin = blocks.rest();
  const std::string extension = blocks.path().extension().string();
  const std::string_view foreign = foreign_packing(begin);
  HADAL_CHECK(foreign.empty(), "{}: is packed by {}, this reads gzip and zstd; unpack it first", blocks.path().string(),
              foreign);
  if (begin.starts_with("\x1F\x8B")) return std::make_unique<Gzip>();
  if (is_zstd(begin)) return std::make_unique<Zstd>();
  for (const char* named : {".gz", ".zst"})
    HADAL_CHECK(extension != named, "{}: does not begin as a {} file does", blocks.path().string(), named);
  return std::make_unique<Plain>();
}

}  // namespace

struct TextFile::State {
  explicit State(const std::filesystem::path& path) : blocks(path), packing(packing_of(blocks)) {}
  Blocks blocks;
  std::unique_ptr<Packing> packing;
};

TextFile::TextFile(std::filesystem::path path) : state_(std::make_unique<State>(path)) {}
TextFile::~TextFile() = default;
TextFile::TextFile(TextFile&&) noexcept = default;

std::size_t TextFile::read(std::span<char> out) {
  return state_->packing->read(state_->blocks, out);
}

std::uint64_t TextFile::consumed() const {
  return state_->blocks.taken();
}

const std::filesystem::path& TextFile::path() const {
  return state_->blocks.path();
}

}  // namespace hadal::data
