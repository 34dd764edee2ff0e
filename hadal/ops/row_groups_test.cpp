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

TEST(RowGroups, GridsOfRowsAreGroupedTooAndServeWithoutTheStoredOnes) {
  const Philox random(4, 0);
  std::uint64_t at = 0;
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    if (!isa_supported(isa)) continue;
    Context ctx(2, isa);
    for (const bool zeros : {false, true}) {
      constexpr Index kRows = 192, kColumns = 320;
      const Tensor values(DType::kI32, {kRows, kColumns / 8}), x(DType::kF32, {3, kColumns}),
          scale(DType::kF16, {kRows, kColumns / 64}), zero(DType::kU8, {kRows, kColumns / 64});
      for (Index i = 0; i < values->num_elements(); ++i)
        values->data<std::int32_t>()[i] = static_cast<std::int32_t>(random.block(at++)[0]);
      for (Index i = 0; i < scale->num_elements(); ++i) {
        scale->data<f16>()[i] = float_to_f16(static_cast<float>(random.uniform(at++)));
        zero->data<std::uint8_t>()[i] = static_cast<std::uint8_t>(random.block(at++)[0] % 16);
      }
      for (Index i = 0; i < x->num_elements(); ++i)
        x->data<float>()[i] = static_cast<float>(random.uniform(at++) - 0.5);
      Weight stored{.values = values, .scale = scale, .scale_rows = 1, .scale_columns = 64, .packed_columns = kColumns};
      if (zeros) stored.zero = zero;
      Weight grouped = stored;
      const std::uint64_t grid_bytes = grouped_grid_bytes(grouped);
      ASSERT_EQ(grid_bytes, static_cast<std::uint64_t>(scale->num_bytes() + (zeros ? zero->num_bytes() : 0)));
      const Tensor to(DType::kU8, {values->num_bytes()}), grids(DType::kU8, {static_cast<Index>(grid_bytes)});
      const std::array<Weight*, 1> weights = {&grouped};
      const std::array<std::byte*, 1> places = {static_cast<std::byte*>(to->raw())},
                                      grid_places = {static_cast<std::byte*>(grids->raw())};
      group_rows(ctx, weights, places);
      group_grids(ctx, weights, grid_places);
      ASSERT_TRUE(grouped.packed.scale);
      grouped.values = grouped.scale = grouped.zero = {};
      const Workspace::Scope scope(ctx.workspace);
      const TensorRef expected = linear(ctx, x, stored), got = linear(ctx, x, grouped);
      EXPECT_EQ(std::memcmp(got.raw(), expected.raw(), static_cast<std::size_t>(got.num_bytes())), 0) << isa_name(isa);
      const TensorRef part = linear(ctx, x, grouped.rows(64, 128));
      for (Index i = 0; i < 3; ++i)
        EXPECT_EQ(std::memcmp(part.data<float>() + i * 64, expected.data<float>() + i * kRows + 64, 64 * sizeof(float)),
                  0)
            << isa_name(isa);
    }
  }
}

TEST(RowGroups, GridsThatAreNotOfTheRowsAloneStayAsStored) {
  const Tensor values(DType::kI8, {128, 256}), of_rows(DType::kF32, {128, 2}), of_blocks(DType::kF32, {1, 2}),
      of_more(DType::kF32, {192, 2}), one(DType::kF32, {128, 1});
  const Weight rows{.values = values, .scale = of_rows, .scale_rows = 1};
  EXPECT_EQ(grouped_grid_bytes(rows), 1024u);
  EXPECT_EQ(grouped_grid_bytes({.values = values, .scale = of_blocks}), 0u);
  EXPECT_EQ(grouped_grid_bytes({.values = values, .scale = of_more, .scale_rows = 1}), 0u);
  EXPECT_EQ(grouped_grid_bytes({.values = values, .scale = of_more, .scale_rows = 1, .first_row = 64}), 0u);
  EXPECT_EQ(grouped_grid_bytes({.values = values, .scale = one, .scale_rows = 1, .scale_columns = 256}), 0u);
  EXPECT_EQ(grouped_grid_bytes({.values = values}), 0u);
}

}  // namespace
}  // namespace hadal::ops
