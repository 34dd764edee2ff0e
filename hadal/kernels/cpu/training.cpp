// What training computes on the fast kernels; what there is none for is the reference's.
#include <algorithm>
#include <vector>

#include "hadal/kernels/cpu/products.h"
#include "hadal/kernels/cpu/product.h"
#include "hadal/kernels/ref/training_impl.h"

namespace hadal::kernels::cpu {
namespace {

// How a product is cut: pieces as alike as they can be.
struct Cut {
  Index rows, columns;  // of a piece
  Index row_pieces, column_pieces;
  Index count() const { return row_pieces * column_pieces; }
};

Index even(Index n, Index most, Index unit) {
  const Index pieces = (n + most - 1) / most;
  return ((n + pieces - 1) / pieces + unit - 1) / unit * unit;
}

Cut cut(const Product<float>& p, const ProductKernels& k) {
  constexpr Index kRowUnit = 12, kColumnUnit = 32;
  const Index rows = even(p.m, k.piece_rows, kRowUnit), columns = even(p.n, k.piece_columns, kColumnUnit);
  return {rows, columns, (p.m + rows - 1) / rows, (p.n + columns - 1) / columns};
}

void products(Context& ctx, std::span<const Product<float>> all) {
  const ProductKernels& k = ctx.numerics.isa == Isa::kAvx2 ? avx2::kProducts : avx512::kProducts;
  const Workspace::Scope scope(ctx.workspace);
  const ThreadScratch scratch(ctx, k.scratch_floats() * static_cast<Index>(sizeof(float)));
  std::vector<Cut> cuts;
  std::vector<Index> end;
  Index work = 0;
  for (const Product<float>& p : all) {
    cuts.push_back(cut(p, k));
    end.push_back((end.empty() ? 0 : end.back()) + cuts.back().count());
    work += p.m * p.n * p.k;
  }
  if (end.empty() || end.back() == 0) return;
  const Index grain = work < kSmallWork ? end.back() : 1;
  ctx.threads.parallel_for(end.back(), grain, [&](Index first, Index last) {
    for (Index piece = first; piece < last; ++piece) {
      const auto i = static_cast<std::size_t>(std::upper_bound(end.begin(), end.end(), piece) - end.begin());
      const Cut& c = cuts[i];
      const Index at = piece - (i ? end[i - 1] : 0), row = at / c.column_pieces * c.rows,
                  column = at % c.column_pieces * c.columns;
      k.piece(all[i], row, std::min(row + c.rows, all[i].m), column, std::min(column + c.columns, all[i].n),
              static_cast<float*>(scratch.mine()));
    }
  });
}

constexpr TrainingKernels<float> table() {
  TrainingKernels<float> t = ref::Training<float>::table();
  t.products = products;
  return t;
}

}  // namespace

const TrainingKernels<float> kTraining = table();

}  // namespace hadal::kernels::cpu
