// SHA-256, by OpenSSL: names and checksums of what is kept in files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace hadal::io {

using Digest = std::array<std::uint8_t, 32>;

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  Sha256& bytes(std::span<const std::byte> data);
  // Numbers as eight bytes, little-endian; text behind its length, so that no two sequences of parts are the same
  // bytes.
  Sha256& number(std::uint64_t value);
  Sha256& text(std::string_view value);
  Sha256& digest(const Digest& value) { return bytes(std::as_bytes(std::span(value))); }
  // Of all that was added; once.
  Digest finish();

 private:
  void* state_;  // EVP_MD_CTX
};

// 64 digits, lower case.
std::string to_hex(const Digest& digest);
std::optional<Digest> digest_from_hex(std::string_view text);

}  // namespace hadal::io
