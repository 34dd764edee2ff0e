#include "hadal/ops/row_groups.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "hadal/core/number_formats.h"
#include "hadal/core/random.h"
#include "hadal/ops/linear.h"

namespace hadal::ops {
namespace {

// Matrices that are rearranged in several pieces, whose bounds are not those of any other cutting of rows.
TEST(RowGroups, ManyPiecesGiveTheProductsOfTheMatrixAsStored) {
  const Philox random(3, 0);
  std::uint64_t at = 0;
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    if (!isa_supported(isa)) continue;
    Context ctx(2, isa);
    for (const auto& [rows, columns] : {std::pair<Index, Index>{4160, 200}, {2752, 424}, {64, 64}}) {
      const Tensor values(DType::kBF16, {rows, columns}), x(DType::kF32, {3, columns});
      for (Index i = 0; i < rows * columns; ++i)
        values->data<bf16>()[i] = float_to_bf16(static_cast<float>(random.uniform(at++) - 0.5));
      for (Index i = 0; i < 3 * columns; ++i) x->data<float>()[i] = static_cast<float>(random.uniform(at++) - 0.5);
      Weight stored{values}, grouped{values};
      const Tensor to(DType::kU8, {values->num_bytes()});
      const std::array<Weight*, 1> weights = {&grouped};
      const std::array<std::byte*, 1> places = {static_cast<std::byte*>(to->raw())};
      group_rows(ctx, weights, places);
      ASSERT_TRUE(grouped.packed);
      grouped.values = {};
      const Workspace::Scope scope(ctx.workspace);
      const TensorRef expected = linear(ctx, x, stored), got = linear(ctx, x, grouped);
      EXPECT_EQ(std::memcmp(got.raw(), expected.raw(), static_cast<std::size_t>(got.num_bytes())), 0)
          << isa_name(isa) << " " << rows << " x " << columns;
    }
  }
}

}  // namespace
}  // namespace hadal::ops
