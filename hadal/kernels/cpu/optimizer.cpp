#include "hadal/kernels/cpu/optimizer.h"

#include "hadal/kernels/cpu/optimizer_rows.h"
#include "hadal/kernels/ref/optimizer_impl.h"

namespace hadal::kernels::cpu {
namespace {

using Ref = ref::Optimizer<float>;

template <class Moment>
void adamw_piece(const AdamWFactors& f, const AdamWPart<float>& p, const OptimizerPiece& piece) {
  avx2::adamw(f, p.grad + piece.begin, static_cast<Moment*>(p.first) + piece.begin,
              static_cast<Moment*>(p.second) + piece.begin, p.value + piece.begin, piece.end - piece.begin, p.decay);
}

template <class Moment>
void momentum_piece(const MomentumFactors& f, const MomentumPart<float>& p, const OptimizerPiece& piece) {
  avx2::momentum(f, p.grad + piece.begin, static_cast<Moment*>(p.momentum) + piece.begin, p.update + piece.begin,
                 piece.end - piece.begin);
}

}  // namespace

void sums_of_squares(Context& ctx, std::span<const SquaresPart<float>> parts, double* sums) {
  sum_pieces(ctx, parts, sums, [](const float* x, Index n) { return avx2::squares(x, n); });
}

void adamw(Context& ctx, const AdamWFactors& f, DType moments, std::span<const AdamWPart<float>> parts) {
  if (moments == DType::kF64) return Ref::adamw(ctx, f, moments, parts);
  for_pieces(ctx, parts, [&](std::size_t, const OptimizerPiece& piece) {
    (moments == DType::kBF16 ? adamw_piece<bf16> : adamw_piece<float>)(f, parts[piece.part], piece);
  });
}

void momentum(Context& ctx, const MomentumFactors& f, DType moments, std::span<const MomentumPart<float>> parts) {
  if (moments == DType::kF64) return Ref::momentum(ctx, f, moments, parts);
  for_pieces(ctx, parts, [&](std::size_t, const OptimizerPiece& piece) {
    (moments == DType::kBF16 ? momentum_piece<bf16> : momentum_piece<float>)(f, parts[piece.part], piece);
  });
}

void blend(Context& ctx, std::span<const BlendPart<float>> parts) {
  for_pieces(ctx, parts, [&](std::size_t, const OptimizerPiece& piece) {
    const BlendPart<float>& p = parts[piece.part];
    const Index n = piece.end - piece.begin;
    const auto of_x = static_cast<float>(p.of_x), of_y = static_cast<float>(p.of_y);
    float* y = p.y + piece.begin;
    if (!p.x)
      avx2::scaled(y, of_y, y, n);
    else if (p.of_y == 0)
      avx2::scaled(p.x + piece.begin, of_x, y, n);
    else
      avx2::blend(p.x + piece.begin, of_x, y, of_y, n);
    Ref::add_diagonal(p, piece);
  });
}

}  // namespace hadal::kernels::cpu
