#include "hadal/checkpoint/values.h"

#include <fmt/format.h>

#include <atomic>

namespace hadal::checkpoint {
namespace {

// An element is not finite if all bits of `special` are set (0: never), zero if none of `magnitude` is.
template <class Bits>
struct Format {
  Bits special, magnitude;
  bool is_bad(Bits b) const { return special != 0 && (b & special) == special; }
};

template <class Bits>
ValueCounts count(Context& ctx, const ConstTensorRef& t, Format<Bits> format) {
  const auto* data = static_cast<const Bits*>(t.raw());
  std::atomic<std::int64_t> not_finite{0};
  std::atomic<bool> nonzero{false};
  ctx.threads.parallel_for(t.num_elements(), 1 << 18, [&](Index begin, Index end) {
    std::int64_t bad = 0;
    Bits any = 0;
    for (Index i = begin; i < end; ++i) {
      bad += (data[i] & format.special) == format.special;
      any |= data[i] & format.magnitude;
    }
    if (format.special != 0) not_finite += bad;
    if (any != 0) nonzero = true;
  });
  ValueCounts out{not_finite, -1, nonzero};
  for (Index i = 0; out.not_finite > 0 && out.first_bad < 0; ++i)
    if (format.is_bad(data[i])) out.first_bad = i;
  return out;
}

ValueCounts with_nonzero(ValueCounts counts) {
  counts.nonzero = true;
  return counts;
}

}  // namespace

std::string place_of(Index element, const Shape& shape) {
  if (shape.rank() != 2 || shape[1] == 0) return fmt::format("place {}", element);
  return fmt::format("row {}, column {}", element / shape[1], element % shape[1]);
}

ValueCounts count_values(Context& ctx, const ConstTensorRef& t) {
  switch (t.dtype()) {
    case DType::kF32:
      return count<std::uint32_t>(ctx, t, {0x7F800000u, 0x7FFFFFFFu});
    case DType::kBF16:
      return count<std::uint16_t>(ctx, t, {0x7F80, 0x7FFF});
    case DType::kF16:
      return count<std::uint16_t>(ctx, t, {0x7C00, 0x7FFF});
    case DType::kF8E4M3:
      return count<std::uint8_t>(ctx, t, {0x7F, 0x7F});
    case DType::kF8E8M0:
      return with_nonzero(count<std::uint8_t>(ctx, t, {0xFF, 0xFF}));  // no code is zero
    case DType::kI8:
      return count<std::uint8_t>(ctx, t, {0, 0xFF});
    case DType::kI32:
      return count<std::uint32_t>(ctx, t, {0, 0xFFFFFFFFu});
    default:
      return {0, -1, true};
  }
}

}  // namespace hadal::checkpoint
