// What is decided about a document by its text alone.
#pragma once

#include <string_view>

#include "hadal/core/error.h"
#include "hadal/data/little_endian.h"
#include "hadal/io/digest.h"

namespace hadal::data {

// Its first 16 bytes tell duplicates, the next 8 key what is drawn for it (data/fim.h), the last 8 its split.
inline io::Digest document_hash(std::string_view text) {
  return io::Sha256().bytes(std::as_bytes(std::span(text))).finish();
}

// So that a text is on the same side in every data set of this share.
inline bool is_validation(const io::Digest& hash, double share) {
  return static_cast<double>(number_at<std::uint64_t>(hash.data() + 24) >> 11) * 0x1p-53 < share;
}

inline void check_validation_share(double share) {
  HADAL_CHECK(share >= 0 && share < 1, "--validation: {} is not at least 0 and below 1", share);
}

}  // namespace hadal::data
