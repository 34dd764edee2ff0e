#include "hadal/data/megatron.h"

#include <array>
#include <cstring>
#include <limits>

#include "hadal/data/little_endian.h"

namespace hadal::data {
namespace {

constexpr std::array<char, 9> kIndexMagic{'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
constexpr std::uint64_t kIndexVersion = 1;
constexpr std::size_t kIndexHeader = kIndexMagic.size() + 8 + 1 + 8 + 8;
constexpr std::int64_t kUint16Below = 65500;

// By their codes, from 1 on; floating point ones hold no tokens.
constexpr std::array<DType, 8> kDTypes{DType::kU8,  DType::kI8,  DType::kI16, DType::kI32,
                                       DType::kI64, DType::kF64, DType::kF32, DType::kU16};

std::filesystem::path with_extension(const std::filesystem::path& prefix, const char* extension) {
  return prefix.string() + extension;
}

MegatronIndex parse(const std::filesystem::path& prefix, const io::MappedFile& idx, const io::MappedFile& bin) {
  try {
    return MegatronIndex(idx.bytes(), bin.bytes().size());
  } catch (const Error& e) {
    fail("{}: {}", with_extension(prefix, ".idx").string(), e.what());
  }
}

}  // namespace

MegatronIndex::MegatronIndex(std::span<const std::byte> bytes, std::uint64_t bin_size) {
  HADAL_CHECK(
      bytes.size() >= kIndexMagic.size() && std::memcmp(bytes.data(), kIndexMagic.data(), kIndexMagic.size()) == 0,
      "is no index of Megatron's (MMIDIDX was expected at its beginning)");
  HADAL_CHECK(bytes.size() >= kIndexHeader, "is cut off: {} bytes", bytes.size());
  const std::byte* at = bytes.data() + kIndexMagic.size();
  const auto version = number_at<std::uint64_t>(at);
  HADAL_CHECK(version == kIndexVersion, "has version {}, this program reads {}", version, kIndexVersion);
  const auto code = number_at<std::uint8_t>(at + 8);
  HADAL_CHECK(code >= 1 && code <= kDTypes.size(), "has dtype code {}, 1 to 8 are known", code);
  dtype_ = kDTypes[code - 1u];
  HADAL_CHECK(dtype_ != DType::kF64 && dtype_ != DType::kF32, "holds {} values, no token ids", dtype_name(dtype_));
  sequences_ = number_at<std::uint64_t>(at + 9);
  entries_ = number_at<std::uint64_t>(at + 17);
  const std::uint64_t rest = bytes.size() - kIndexHeader;
  const bool fits = sequences_ <= rest / 12 && entries_ <= (rest - 12 * sequences_) / 8;
  HADAL_CHECK(fits, "is cut off: {} bytes for {} sequences and {} entries of its document index", bytes.size(),
              sequences_, entries_);
  const std::uint64_t more = rest - 12 * sequences_ - 8 * entries_;
  HADAL_CHECK(more == 0 || more == sequences_, "has {} bytes more than its header says", more);
  lengths_ = bytes.subspan(kIndexHeader, 4 * sequences_);
  places_ = bytes.subspan(kIndexHeader + lengths_.size(), 8 * sequences_);
  first_ = bytes.subspan(kIndexHeader + lengths_.size() + places_.size(), 8 * entries_);
  const std::uint64_t width = dtype_bytes(dtype_);
  for (std::uint64_t i = 0; i < sequences_; ++i) {
    const auto length = number_at<std::int32_t>(lengths_.data() + 4 * i);
    const auto place = number_at<std::int64_t>(places_.data() + 8 * i);
    const bool inside = length >= 0 && place >= 0 && static_cast<std::uint64_t>(place) <= bin_size &&
                        static_cast<std::uint64_t>(length) * width <= bin_size - static_cast<std::uint64_t>(place);
    HADAL_CHECK(inside, "sequence {} has {} tokens at byte {}, beyond the .bin file's {} bytes", i, length, place,
                bin_size);
    tokens_ += static_cast<std::uint64_t>(length);
  }
  HADAL_CHECK(entries_ >= 1 && number_at<std::int64_t>(first_.data()) == 0, "its document index does not begin with 0");
  for (std::uint64_t i = 1; i < entries_; ++i)
    HADAL_CHECK(number_at<std::int64_t>(first_.data() + 8 * i) >= number_at<std::int64_t>(first_.data() + 8 * (i - 1)),
                "its document index does not ascend at {}", i);
  HADAL_CHECK(static_cast<std::uint64_t>(number_at<std::int64_t>(first_.data() + 8 * (entries_ - 1))) == sequences_,
              "its document index does not end with the number of sequences, {}", sequences_);
}

std::uint64_t MegatronIndex::length(std::uint64_t sequence) const {
  return static_cast<std::uint64_t>(number_at<std::int32_t>(lengths_.data() + 4 * sequence));
}

std::uint64_t MegatronIndex::place(std::uint64_t sequence) const {
  return static_cast<std::uint64_t>(number_at<std::int64_t>(places_.data() + 8 * sequence));
}

std::uint64_t MegatronIndex::first_of(std::uint64_t document) const {
  return static_cast<std::uint64_t>(number_at<std::int64_t>(first_.data() + 8 * document));
}

std::filesystem::path megatron_prefix(const std::filesystem::path& path) {
  const auto extension = path.extension();
  return extension == ".bin" || extension == ".idx" ? path.parent_path() / path.stem() : path;
}

MegatronDataset::MegatronDataset(const std::filesystem::path& prefix)
    : prefix_(megatron_prefix(prefix)),
      idx_(with_extension(prefix_, ".idx")),
      bin_(with_extension(prefix_, ".bin")),
      index_(parse(prefix_, idx_, bin_)) {}

std::vector<TokenId> MegatronDataset::document(std::uint64_t number, std::int64_t vocab_size) const {
  std::vector<TokenId> out;
  const std::string where = fmt::format("{}, document {}", with_extension(prefix_, ".bin").string(), number);
  for (std::uint64_t s = index_.first_of(number); s < index_.first_of(number + 1); ++s) {
    const auto length = static_cast<Index>(index_.length(s));
    if (length == 0) continue;
    const ConstTensorRef stored(bin_.bytes().data() + index_.place(s), index_.dtype(), {length});
    const auto ids = token_ids(stored, vocab_size, where);
    out.insert(out.end(), ids.begin(), ids.end());
  }
  return out;
}

MegatronWriter::MegatronWriter(const std::filesystem::path& prefix, std::int64_t vocab_size)
    : bin_(with_extension(prefix, ".bin")),
      idx_(with_extension(prefix, ".idx")),
      dtype_(vocab_size < kUint16Below ? DType::kU16 : DType::kI32) {}

void MegatronWriter::add(std::span<const TokenId> document) {
  HADAL_CHECK(document.size() <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
              "{}: a document has {} tokens, the format has room for 2^31 - 1", bin_.path().string(), document.size());
  encoded_.clear();
  for (const TokenId id : document) {
    if (dtype_ == DType::kU16)
      append_number(encoded_, static_cast<std::uint16_t>(id));
    else
      append_number(encoded_, id);
  }
  bin_.write(encoded_);
  lengths_.push_back(static_cast<std::int32_t>(document.size()));
}

void MegatronWriter::finish() {
  const std::uint64_t width = dtype_bytes(dtype_), count = lengths_.size();
  std::vector<std::byte> out;
  append_bytes(out, kIndexMagic);
  append_number(out, kIndexVersion);
  append_number(out, static_cast<std::uint8_t>(dtype_ == DType::kU16 ? 8 : 4));
  append_number(out, count);
  append_number(out, count + 1);
  append_bytes(out, lengths_);
  idx_.write(out);
  std::uint64_t place = 0;
  out.clear();
  for (const std::int32_t length : lengths_) {
    append_number(out, place);
    place += static_cast<std::uint64_t>(length) * width;
  }
  for (std::uint64_t i = 0; i <= count; ++i) append_number(out, i);
  idx_.write(out);
  // Without its index the .bin file is nothing yet.
  bin_.finish();
  idx_.finish();
}

}  // namespace hadal::data
