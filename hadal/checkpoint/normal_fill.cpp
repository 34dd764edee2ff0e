#include "hadal/checkpoint/normal_fill.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace hadal::checkpoint {
namespace {

// Blocks handled together, in arrays that the compiler turns into vectors.
constexpr std::size_t kGroup = 64;

struct Words {
  std::array<std::uint32_t, kGroup> w[4];
};

// Philox4x32-10 (hadal/core/random.h) of kGroup consecutive counters.
void philox_group(std::uint64_t seed, std::uint64_t stream, std::uint64_t block, Words& out) {
  for (std::size_t i = 0; i < kGroup; ++i) {
    const std::uint64_t index = block + i;
    out.w[0][i] = static_cast<std::uint32_t>(index);
    out.w[1][i] = static_cast<std::uint32_t>(index >> 32);
    out.w[2][i] = static_cast<std::uint32_t>(stream);
    out.w[3][i] = static_cast<std::uint32_t>(stream >> 32);
  }
  auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (std::size_t i = 0; i < kGroup; ++i) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * out.w[0][i], p1 = std::uint64_t{0xCD9E8D57u} * out.w[2][i];
      out.w[0][i] = static_cast<std::uint32_t>(p1 >> 32) ^ out.w[1][i] ^ k0;
      out.w[2][i] = static_cast<std::uint32_t>(p0 >> 32) ^ out.w[3][i] ^ k1;
      out.w[1][i] = static_cast<std::uint32_t>(p1);
      out.w[3][i] = static_cast<std::uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// -ln(u) for u in (0, 1]: exponent and a polynomial of the mantissa around 1.
float minus_log(float u) {
  const auto bits = std::bit_cast<std::uint32_t>(u);
  // Mantissas from sqrt(1/2) to sqrt(2), so that the polynomial's argument is small on both sides.
  const auto shifted = bits - 0x3F3504F3u;
  const auto exponent = static_cast<float>(static_cast<std::int32_t>(shifted) >> 23);
  const float m = std::bit_cast<float>((shifted & 0x7FFFFFu) + 0x3F3504F3u) - 1.0f;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const float z = m * m;
  return -(exponent * 0.693147180559945f + (m - 0.5f * z + p * m * z));
}

// Sine and cosine of 2 pi t for t in [-1/8, 1/8], and the octants put together around it.
struct SinCos {
  float sin, cos;
};
SinCos sin_cos_turns(float turns) {
  const float quarter = std::floor(turns * 4.0f + 0.5f);
  const float x = (turns - quarter * 0.25f) * 6.28318530717958648f;
  const float z = x * x;
  const float s = x + x * z * (-1.6666654611e-1f + z * (8.3321608736e-3f - z * 1.9515295891e-4f));
  const float c =
      1.0f - 0.5f * z + z * z * (4.166664568298827e-2f + z * (-1.388731625493765e-3f + z * 2.443315711809948e-5f));
  const int q = static_cast<int>(quarter) & 3;
  const float sine = q & 1 ? c : s, cosine = q & 1 ? s : c;
  return {q & 2 ? -sine : sine, (q == 1 || q == 2) ? -cosine : cosine};
}

// Four deviates of each of kGroup blocks.
void normal_group(std::uint64_t seed, std::uint64_t stream, std::uint64_t block, float std, float* out) {
  Words words;
  philox_group(seed, stream, block, words);
  for (int pair = 0; pair < 2; ++pair)
    for (std::size_t i = 0; i < kGroup; ++i) {
      // 24 bits in (0, 1]; 24 bits of a turn in [0, 1).
      const float u = static_cast<float>((words.w[2 * pair][i] >> 8) + 1) * 0x1p-24f;
      const float turns = static_cast<float>(words.w[2 * pair + 1][i] >> 8) * 0x1p-24f;
      const float radius = std::sqrt(2.0f * minus_log(u)) * std;
      const SinCos a = sin_cos_turns(turns);
      out[4 * i + static_cast<std::size_t>(2 * pair)] = radius * a.cos;
      out[4 * i + static_cast<std::size_t>(2 * pair) + 1] = radius * a.sin;
    }
}

}  // namespace

void fill_normal(Context& ctx, std::span<float> values, std::uint64_t seed, std::uint64_t stream, std::uint64_t first,
                 double std) {
  constexpr std::uint64_t kSpan = 4 * kGroup;
  const std::uint64_t begin = first / kSpan, end = (first + values.size() + kSpan - 1) / kSpan;
  ctx.threads.parallel_for(static_cast<Index>(end - begin), 64, [&](Index from, Index to) {
    std::array<float, kSpan> group;
    for (Index g = from; g < to; ++g) {
      const std::uint64_t at = (begin + static_cast<std::uint64_t>(g)) * kSpan;
      normal_group(seed, stream, at / 4, static_cast<float>(std), group.data());
      const std::uint64_t low = std::max(at, first), high = std::min(at + kSpan, first + values.size());
      std::copy(group.begin() + static_cast<std::ptrdiff_t>(low - at),
                group.begin() + static_cast<std::ptrdiff_t>(high - at),
                values.begin() + static_cast<std::ptrdiff_t>(low - first));
    }
  });
}

}  // namespace hadal::checkpoint
