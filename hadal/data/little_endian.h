// Integers and bytes of files, on a host that is little-endian as they are.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

namespace hadal::data {

static_assert(std::endian::native == std::endian::little);

// Wherever it lies.
template <class T>
T number_at(const void* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <class T>
void append_number(std::vector<std::byte>& out, T value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

template <class Range>
void append_bytes(std::vector<std::byte>& out, const Range& range) {
  const auto bytes = std::as_bytes(std::span(range));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace hadal::data
