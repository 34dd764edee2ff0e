#include "hadal/data/shard.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "hadal/data/little_endian.h"

namespace hadal::data {
namespace {

constexpr std::string_view kMagic = "HADALTOK";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kChecksumAt = kShardHeader - sizeof(io::Digest);
// Far from where sums of sizes could wrap round.
constexpr std::uint64_t kMost = std::uint64_t{1} << 50;

io::Digest digest_at(std::span<const std::byte> bytes, std::size_t at) {
  io::Digest out;
  std::memcpy(out.data(), bytes.data() + at, out.size());
  return out;
}

io::Digest sha256(std::span<const std::byte> bytes) {
  return io::Sha256().bytes(bytes).finish();
}

TokenId token_at(const std::byte* at, std::uint32_t width) {
  return width == 2 ? static_cast<TokenId>(number_at<std::uint16_t>(at))
                    : static_cast<TokenId>(number_at<std::uint32_t>(at));
}

}  // namespace

std::uint32_t token_bytes_for(std::uint32_t vocab_size) {
  return vocab_size <= 65536 ? 2 : 4;
}

std::vector<std::byte> shard_header_bytes(const ShardHeader& h) {
  std::vector<std::byte> out;
  append_bytes(out, kMagic);
  append_number(out, kVersion);
  append_number(out, h.token_bytes);
  append_number(out, h.vocab_size);
  append_number(out, std::uint32_t{0});
  append_bytes(out, h.tokenizer);
  append_number(out, h.documents);
  append_number(out, h.tokens);
  append_number(out, h.text_bytes);
  append_bytes(out, h.index);
  out.resize(kChecksumAt);
  append_bytes(out, sha256(out));
  return out;
}

ShardHeader parse_shard_header(std::span<const std::byte> begin, std::uint64_t file_size) {
  HADAL_CHECK(begin.size() >= kMagic.size() && std::memcmp(begin.data(), kMagic.data(), kMagic.size()) == 0,
              "it is no shard of `hadal data build`");
  HADAL_CHECK(begin.size() >= kShardHeader, "it is cut off: {} bytes", file_size);
  const std::uint32_t version = number_at<std::uint32_t>(begin.data() + 8);
  HADAL_CHECK(version == kVersion, "it has version {} of the format, this program reads {}", version, kVersion);
  ShardHeader h;
  h.token_bytes = number_at<std::uint32_t>(begin.data() + 12);
  h.vocab_size = number_at<std::uint32_t>(begin.data() + 16);
  h.tokenizer = digest_at(begin, 24);
  h.documents = number_at<std::uint64_t>(begin.data() + 56);
  h.tokens = number_at<std::uint64_t>(begin.data() + 64);
  h.text_bytes = number_at<std::uint64_t>(begin.data() + 72);
  h.index = digest_at(begin, 80);
  // With it, that the bytes between are zeros and the checksum is right.
  const std::vector<std::byte> written = shard_header_bytes(h);
  HADAL_CHECK(std::equal(written.begin(), written.end(), begin.begin()), "its header is damaged; build it again");
  const bool sane = (h.token_bytes == 2 || h.token_bytes == 4) && h.vocab_size > 0 &&
                    h.vocab_size <= static_cast<std::uint32_t>(std::numeric_limits<TokenId>::max()) &&
                    (h.token_bytes == 4 || h.vocab_size <= 65536) && h.tokens <= kMost && h.documents <= h.tokens;
  HADAL_CHECK(sane, "its header contradicts itself; build it again");
  const std::uint64_t wanted = h.index_begin() + h.index_bytes();
  HADAL_CHECK(file_size >= wanted, "it is cut off: {} of {} bytes are there", file_size, wanted);
  HADAL_CHECK(file_size == wanted, "it has {} bytes more than its header says", file_size - wanted);
  return h;
}

void check_shard_index(const ShardHeader& h, std::span<const std::byte> index) {
  HADAL_CHECK(index.size() == h.index_bytes() && sha256(index) == h.index, "its index is damaged; build it again");
  std::uint64_t last = 0;
  bool ascending = number_at<std::uint64_t>(index.data()) == 0;
  for (std::uint64_t i = 1; i <= h.documents; ++i) {
    const std::uint64_t at = number_at<std::uint64_t>(index.data() + 8 * i);
    ascending = ascending && at > last;
    last = at;
  }
  HADAL_CHECK(ascending && last == h.tokens, "the places of its documents contradict each other; build it again");
}

void check_shard_chunk(const ShardHeader& h, std::span<const std::byte> index, std::uint64_t number,
                       std::span<const std::byte> chunk) {
  const auto sum = digest_at(index, (h.documents + 1) * 8 + number * sizeof(io::Digest));
  const std::uint64_t begin = number * kShardChunk;
  HADAL_CHECK(sha256(chunk) == sum, "bytes {} to {} are damaged; build it again", kShardHeader + begin,
              kShardHeader + begin + chunk.size());
  const std::uint64_t end = std::min(begin + chunk.size(), h.tokens * h.token_bytes);
  for (std::uint64_t at = begin; at < end; at += h.token_bytes) {
    const TokenId id = token_at(chunk.data() + (at - begin), h.token_bytes);
    HADAL_CHECK(id >= 0 && static_cast<std::uint32_t>(id) < h.vocab_size, "token {} is {}, ids are below {}",
                at / h.token_bytes, id, h.vocab_size);
  }
}

Shard::Shard(const std::filesystem::path& path) : path_(path), file_(path) {
  const auto bytes = file_.bytes();
  try {
    header_ = parse_shard_header(bytes, bytes.size());
    digest_ = digest_at(bytes, kChecksumAt);
    check_shard_index(header_, index());
  } catch (const Error& e) {
    fail("{}: {}", path_.string(), e.what());
  }
  file_.release();
  checked_ = std::make_unique<std::atomic<bool>[]>(header_.chunks());
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  HADAL_CHECK(fd_ >= 0, "{}: cannot be opened: {}", path_.string(), std::strerror(errno));
}

Shard::~Shard() {
  if (fd_ >= 0) ::close(fd_);
}

std::span<const std::byte> Shard::index() const {
  return file_.bytes().subspan(header_.index_begin(), header_.index_bytes());
}

std::uint64_t Shard::begin_of(std::uint64_t document) const {
  return number_at<std::uint64_t>(index().data() + 8 * document);
}

std::uint64_t Shard::document_at(std::uint64_t token) const {
  std::uint64_t low = 0, high = documents();
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (begin_of(middle) <= token ? low : high) = middle;
  }
  return low;
}

void Shard::read_bytes(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    HADAL_CHECK(n >= 0, "{}: cannot be read: {}", path_.string(), std::strerror(errno));
    HADAL_CHECK(n > 0, "{}: became shorter while it was in use; build it again", path_.string());
    out = out.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
}

// Bytes [begin, begin + out.size()) of the tokens, all of one chunk.
void Shard::read_chunk(std::uint64_t number, std::uint64_t begin, std::span<std::byte> out) const {
  if (checked_[number].load(std::memory_order_relaxed)) return read_bytes(kShardHeader + begin, out);
  const std::uint64_t first = number * kShardChunk;
  std::vector<std::byte> chunk(std::min(kShardChunk, header_.data_bytes() - first));
  read_bytes(kShardHeader + first, chunk);
  try {
    check_shard_chunk(header_, index(), number, chunk);
  } catch (const Error& e) {
    fail("{}: {}", path_.string(), e.what());
  }
  checked_[number].store(true, std::memory_order_relaxed);
  std::memcpy(out.data(), chunk.data() + (begin - first), out.size());
}

void Shard::read(std::uint64_t first, std::span<TokenId> out) const {
  HADAL_CHECK(first <= tokens() && out.size() <= tokens() - first, "{}: has {} tokens, {} from {} on were asked for",
              path_.string(), tokens(), out.size(), first);
  const std::uint32_t width = header_.token_bytes;
  std::vector<std::byte> bytes(out.size() * width);
  for (std::uint64_t done = 0; done < bytes.size();) {
    const std::uint64_t at = first * width + done;
    const std::uint64_t n = std::min(bytes.size() - done, kShardChunk - at % kShardChunk);
    read_chunk(at / kShardChunk, at, std::span(bytes).subspan(done, n));
    done += n;
  }
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = token_at(bytes.data() + i * width, width);
}

void Shard::verify() const {
  std::byte one;
  for (std::uint64_t i = 0; i < header_.chunks(); ++i) read_chunk(i, i * kShardChunk, std::span(&one, 1));
}

}  // namespace hadal::data
