#include "hadal/ops/awq.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace hadal::ops {
namespace {

constexpr std::array<int, 8> kOrder = {0, 2, 4, 6, 1, 3, 5, 7};  // the output that nibble i of a word belongs to
constexpr Index kWords = 16;                                     // a cache line of words at a time

// Words [w, w_end) of one row of codes; emit(output, code) for each of their eight outputs.
template <class Emit>
void unpack_row(const std::int32_t* row, Index w, Index w_end, const Emit& emit) {
  for (; w < w_end; ++w) {
    const auto word = static_cast<std::uint32_t>(row[w]);
    for (std::size_t i = 0; i < 8; ++i) emit(w * 8 + kOrder[i], (word >> (4 * i)) & 15u);
  }
}

void repack_codes(const View<const std::int32_t, 2>& from, Index w, Index w_end, Index first,
                  const View<std::int32_t, 2>& to) {
  const Index inputs = from.shape[0];
  std::array<std::uint32_t, kWords * 8> words;
  for (Index c = 0; c < inputs; c += 8) {
    words.fill(0);
    for (Index i = 0; i < std::min<Index>(8, inputs - c); ++i)
      unpack_row(from.row(c + i), w, w_end, [&](Index output, std::uint32_t code) {
        words[static_cast<std::size_t>(output - w * 8)] |= code << (4 * i);
      });
    for (Index n = w * 8; n < w_end * 8; ++n)
      to(n - first, c / 8) = static_cast<std::int32_t>(words[static_cast<std::size_t>(n - w * 8)]);
  }
}

void transpose_scales(const ConstTensorRef& from, Index begin, Index end, Index first, const TensorRef& to) {
  const std::size_t size = dtype_bytes(from.dtype());
  const auto* source = static_cast<const std::byte*>(from.raw());
  auto* target = static_cast<std::byte*>(to.raw());
  for (Index g = 0; g < from.size(0); ++g)
    for (Index n = begin; n < end; ++n)
      std::memcpy(target + static_cast<std::size_t>((n - first) * to.stride(0) + g) * size,
                  source + static_cast<std::size_t>(g * from.stride(0) + n) * size, size);
}

}  // namespace

void repack_awq(const AwqMatrix& from, Index begin, Index end, const TensorRef& packed, const TensorRef& zero,
                const TensorRef& scale, ThreadPool* threads) {
  const auto codes = from.qweight.view<std::int32_t, 2>(), zeros = from.qzeros.view<std::int32_t, 2>();
  const Index words = codes.shape[1], groups = zeros.shape[0];
  HADAL_CHECK(begin % 8 == 0 && end % 8 == 0 && 0 <= begin && begin <= end && end <= words * 8 &&
                  zeros.shape[1] == words && from.scales.shape() == Shape({groups, words * 8}) &&
                  packed.shape() == Shape({end - begin, (codes.shape[0] + 7) / 8}) &&
                  zero.shape() == Shape({end - begin, groups}) && scale.shape() == zero.shape() &&
                  scale.dtype() == from.scales.dtype(),
              "repack_awq: outputs {} to {} of qweight {}, qzeros {}, scales {} into packed {}", begin, end,
              from.qweight.shape().to_string(), from.qzeros.shape().to_string(), from.scales.shape().to_string(),
              packed.shape().to_string());
  const auto to = packed.view<std::int32_t, 2>();
  const auto to_zero = zero.view<std::uint8_t, 2>();
  const auto piece = [&](Index piece_begin, Index piece_end) {
    for (Index p = piece_begin; p < piece_end; ++p) {
      const Index w = begin / 8 + p * kWords, w_end = std::min(w + kWords, end / 8);
      repack_codes(codes, w, w_end, begin, to);
      for (Index g = 0; g < groups; ++g)
        unpack_row(zeros.row(g), w, w_end, [&](Index output, std::uint32_t code) {
          to_zero(output - begin, g) = static_cast<std::uint8_t>(code);
        });
      transpose_scales(from.scales, w * 8, w_end * 8, begin, scale);
    }
  };
  const Index pieces = ((end - begin) / 8 + kWords - 1) / kWords;
  if (threads)
    threads->parallel_for(pieces, 1, piece);
  else
    piece(0, pieces);
}

}  // namespace hadal::ops
