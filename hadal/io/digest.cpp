#include "hadal/io/digest.h"

#include <openssl/evp.h>

#include "hadal/core/error.h"

namespace hadal::io {
namespace {

EVP_MD_CTX* evp(void* state) {
  return static_cast<EVP_MD_CTX*>(state);
}

void check(bool ok) {
  HADAL_CHECK(ok, "OpenSSL has no SHA-256");
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

Sha256::Sha256() : state_(EVP_MD_CTX_new()) {
  check(state_ && EVP_DigestInit_ex(evp(state_), EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() {
  EVP_MD_CTX_free(evp(state_));
}

Sha256& Sha256::bytes(std::span<const std::byte> data) {
  check(EVP_DigestUpdate(evp(state_), data.data(), data.size()) == 1);
  return *this;
}

Sha256& Sha256::number(std::uint64_t value) {
  std::array<std::uint8_t, 8> out{};
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(value >> (8 * i));
  return bytes(std::as_bytes(std::span(out)));
}

Sha256& Sha256::text(std::string_view value) {
  return number(value.size()).bytes(std::as_bytes(std::span(value)));
}

Digest Sha256::finish() {
  Digest out{};
  unsigned int size = 0;
  check(EVP_DigestFinal_ex(evp(state_), out.data(), &size) == 1);
  return out;
}

std::string to_hex(const Digest& digest) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const std::uint8_t byte : digest) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

std::optional<Digest> digest_from_hex(std::string_view text) {
  Digest out{};
  if (text.size() != 2 * out.size()) return {};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);
    if (high < 0 || low < 0) return {};
    out[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return out;
}

}  // namespace hadal::io
