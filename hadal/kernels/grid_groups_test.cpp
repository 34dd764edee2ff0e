// Scales and zero points in groups, beside the same products with all of them as stored.
#include "hadal/kernels/grid_groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "hadal/core/error.h"
#include "hadal/kernels/test_products.h"

namespace hadal::kernels {
namespace grid_groups_test {
namespace {

// Every format whose rows have scales of their own.
std::vector<Format> formats() {
  std::vector<Format> all;
  for (const DType scale : {DType::kF32, DType::kBF16, DType::kF16}) {
    all.push_back({"INT8_128", DType::kI8, 1, 128, scale});
    for (const Index columns : {32, 64, 128})
      for (const bool zeros : {false, true}) all.push_back({"INT4", DType::kI32, 1, columns, scale, zeros});
  }
  return all;
}

std::string name_of(const Format& f) {
  return std::string(f.name) + "/" + std::to_string(f.scale_columns) + " " + std::string(dtype_name(f.scale_dtype)) +
         (f.zeros ? " zeros" : "");
}

// A product whose rows begin at a group within its grids, with all of them in groups.
struct Grouped {
  Grouped(Isa isa, const Problem& p)
      : kernels(linear_kernels(isa)), w(static_cast<Index>(p.w.size())), scale(p.scale.size()), zero(p.zero.size()) {
    std::vector<float> unused;
    const LinearArgs a = p.args(unused);
    kernels.group_rows(a, 0, p.n, w.data());
    const auto bytes = static_cast<Index>(dtype_bytes(a.w_scale_dtype));
    for (Index row = 0; row < p.first_row + p.n; row += 64) {  // in pieces, to their places
      group_grid({p.scale.data(), bytes, p.groups, p.groups}, row, row + 64, kernels.groups, scale.data());
      group_grid({p.zero.data(), 1, p.groups, p.groups}, row, row + 64, kernels.groups, zero.data());
    }
  }
  LinearArgs args(const Problem& p, std::vector<float>& y) {
    LinearArgs a = p.args(y);
    a.w = w.data();
    a.w_layout = a.w_scale_layout = kernels.groups;
    a.w_scale = scale.data();
    if (a.w_zero) a.w_zero = zero.data();
    return a;
  }
  const LinearKernels& kernels;
  Scratch w;
  std::vector<std::uint8_t> scale, zero;
};

class GridGroups : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_supported(GetParam())) GTEST_SKIP() << "this CPU has no " << isa_name(GetParam());
  }
};

TEST_P(GridGroups, HaveTheBitsOfGridsAsStored) {
  for (const Format& format : formats())
    for (const Activations activations : {Activations::kF32, Activations::kBf16, Activations::kInt8})
      for (const auto& [n, k] : {std::pair<Index, Index>{64, 72}, {192, 128}, {320, 1096}, {64, 2048}}) {
        Problem p(format, 40, n, k, 128, 17);
        p.activations = activations;
        Grouped grouped(GetParam(), p);
        std::vector<float> expected, got;
        for (const Index m : {1, 2, 3, 4, 6, 8, 12, 26, 40}) {
          p.m = m;
          multiply(GetParam(), p.args(expected), 0, n);
          const LinearArgs a = grouped.args(p, got);
          multiply(GetParam(), a, 0, 64);
          multiply(GetParam(), a, 64, n);
          ASSERT_TRUE(same_bits(got, expected.data()))
              << name_of(format) << " " << activations_name(activations) << " " << m << " " << n << " " << k;
        }
      }
}

TEST_P(GridGroups, RowsWithinTheMatrixAreAProductOfTheirOwn) {
  for (const Format& format : formats()) {
    Problem p(format, 3, 256, 384, 64, 18);
    Grouped grouped(GetParam(), p);
    std::vector<float> whole, got;
    multiply(GetParam(), p.args(whole), 0, 256);
    LinearArgs a = grouped.args(p, got);
    a.w = static_cast<const std::byte*>(a.w) + 128 * static_cast<Index>(p.w.size()) / 256;
    a.w_first_row += 128;
    a.n = 64;
    multiply(GetParam(), a, 0, 64);
    for (Index i = 0; i < 3; ++i)
      EXPECT_EQ(std::memcmp(&got[static_cast<std::size_t>(i * 256)], &whole[static_cast<std::size_t>(i * 256 + 128)],
                            64 * sizeof(float)),
                0)
          << name_of(format);
  }
}

TEST_P(GridGroups, ThatDoNotGoWithTheWeightAreAnError) {
  const Problem p({"INT4", DType::kI32, 1, 32, DType::kBF16}, 3, 128, 128, 64, 19);
  Grouped grouped(GetParam(), p);
  std::vector<float> y;
  const LinearArgs good = grouped.args(p, y);
  const LinearKernels& kernels = linear_kernels(GetParam());
  EXPECT_NO_THROW(kernels.packed_bytes(good));
  LinearArgs a = good;
  a.w_layout = Layout::kRows;
  EXPECT_THROW(kernels.packed_bytes(a), Error);
  EXPECT_THROW(kernels.multiply(a, nullptr, 0, 128, nullptr, nullptr), Error);
  EXPECT_THROW(kernels.transposed(a, 0, 128), Error);
  EXPECT_THROW(ref::linear(a, 0, 128), Error);
  EXPECT_THROW(ref::linear_transposed(a, 0, 3), Error);
  a = good;
  a.w_scale_layout = kernels.groups == Layout::kGroups32 ? Layout::kGroups64 : Layout::kGroups32;
  EXPECT_THROW(kernels.packed_bytes(a), Error);
  a = good;
  a.w_first_row = 32;
  EXPECT_THROW(kernels.packed_bytes(a), Error);
  a = good;
  a.scale_rows = 128;
  EXPECT_THROW(kernels.packed_bytes(a), Error);
  a = good;
  a.scale_columns = 256;
  EXPECT_THROW(kernels.packed_bytes(a), Error);
}

TEST(GridGroupsOrder, IsGroupThenColumnThenRow) {
  std::vector<std::uint16_t> grid(64 * 5), to(64 * 3);
  for (std::size_t i = 0; i < grid.size(); ++i) grid[i] = static_cast<std::uint16_t>(i);
  group_grid({grid.data(), 2, 5, 3}, 0, 64, Layout::kGroups32, to.data());
  for (std::size_t row = 0; row < 64; ++row)
    for (std::size_t c = 0; c < 3; ++c) EXPECT_EQ(to[row / 32 * 96 + c * 32 + row % 32], row * 5 + c);
  EXPECT_THROW(group_grid({grid.data(), 2, 5, 3}, 0, 16, Layout::kGroups32, to.data()), Error);
  EXPECT_THROW(group_grid({grid.data(), 2, 5, 3}, 0, 64, Layout::kRows, to.data()), Error);
}

// y[m, k] = x[m, n] W as the header says it: a chain over the rows, of x times the row's scale.
std::vector<float> chain_of_rows(const Problem& p, const std::vector<float>& x, Index n) {
  std::vector<float> y(static_cast<std::size_t>(p.m * p.k));
  const auto scale = [&](Index i) {
    const std::uint8_t* at = p.scale.data() + i * static_cast<Index>(dtype_bytes(p.format.scale_dtype));
    if (p.format.scale_dtype == DType::kBF16) return bf16_to_float(*reinterpret_cast<const bf16*>(at));
    if (p.format.scale_dtype == DType::kF16) return f16_to_float(*reinterpret_cast<const f16*>(at));
    return *reinterpret_cast<const float*>(at);
  };
  for (Index i = 0; i < p.m; ++i)
    for (Index c = 0; c < p.k; ++c)
      for (Index j = 0; j < n; ++j) {
        const Index grid = (p.first_row + j) * p.groups + c / p.scale_columns;
        const int code = p.w[static_cast<std::size_t>((j * ((p.k + 7) / 8) + c / 8) * 4 + c % 8 / 2)] >> c % 2 * 4 & 15;
        const int value = code - (p.format.zeros ? p.zero[static_cast<std::size_t>(grid)] : 8);
        float& sum = y[static_cast<std::size_t>(i * p.k + c)];
        sum = std::fma(x[static_cast<std::size_t>(i * n + j)] * scale(grid), static_cast<float>(value), sum);
      }
  return y;
}

TEST_P(GridGroups, TransposedInt4IsTheChainOfItsRows) {
  for (const DType scale : {DType::kF32, DType::kBF16, DType::kF16})
    for (const Index columns : {32, 64, 96, 128, -1})
      for (const bool zeros : {false, true})
        for (const auto& [n, k] : {std::pair<Index, Index>{37, 40}, {128, 512}, {16, 300}, {33, 2440}}) {
          Problem p({"INT4", DType::kI32, 1, columns, scale, zeros}, 4, n, k, 5, 20);
          const Philox random(21, 1);
          std::vector<float> x, got;
          for (Index i = 0; i < 4 * n; ++i)
            x.push_back(static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)) - 0.5));
          for (const Index m : {1, 2, 3, 4}) {
            p.m = m;
            LinearArgs a = p.args(got);
            a.x = x.data();
            a.x_stride = n;
            got.assign(static_cast<std::size_t>(m * k), kPoison);
            a.y = got.data();
            a.y_stride = k;
            linear_kernels(GetParam()).transposed(a, 0, k);
            ASSERT_TRUE(same_bits(got, chain_of_rows(p, x, n).data()))
                << dtype_name(scale) << " " << columns << " " << zeros << " " << m << " " << n << " " << k;
            got.assign(static_cast<std::size_t>(m * k), kPoison);
            const Index middle = k / 256 * 128;
            linear_kernels(GetParam()).transposed(a, middle, k);
            linear_kernels(GetParam()).transposed(a, 0, middle);
            ASSERT_TRUE(same_bits(got, chain_of_rows(p, x, n).data())) << "in two pieces " << n << " " << k;
          }
        }
}

INSTANTIATE_TEST_SUITE_P(Isas, GridGroups, ::testing::Values(Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16),
                         [](const auto& p) {
                           std::string name(isa_name(p.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace grid_groups_test
}  // namespace hadal::kernels
