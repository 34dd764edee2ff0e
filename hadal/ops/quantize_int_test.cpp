// Integer formats against matrices made by tools/make_weight_format_vectors.py.
#include "hadal/ops/quantize_int.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "hadal/core/number_formats.h"
#include "hadal/ops/awq.h"
#include "hadal/ops/linear.h"
#include "tests/support/golden.h"

namespace hadal::ops {
namespace {

const test::Golden& golden() {
  static const test::Golden data(HADAL_TEST_DATA "/formats/integers.safetensors");
  return data;
}

Shape shape_of(const std::string& name) {
  const auto dims = golden().shape(name);
  return Shape(dims.begin(), dims.end());
}

template <class T>
Tensor tensor(DType dtype, const std::string& name, const std::vector<T>& values) {
  Tensor t(dtype, shape_of(name));
  std::memcpy(t->raw(), values.data(), values.size() * sizeof(T));
  return t;
}

Tensor floats(const std::string& name) {
  return tensor(DType::kF32, name, golden().floats(name));
}

bool same_bytes(const ConstTensorRef& a, const ConstTensorRef& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.num_bytes())) == 0;
}

// A matrix of the vectors as a weight, with what owns its memory.
struct Stored {
  Weight weight;
  std::vector<Tensor> owned;
};

Stored int8(const std::string& name) {
  Stored s;
  const bool blocks = name == "blocks";
  s.weight.values = s.owned.emplace_back(tensor(DType::kI8, name + ".weight", golden().signed_bytes(name + ".weight")));
  s.weight.scale = s.owned.emplace_back(floats(name + ".scale"));
  s.weight.scale_rows = blocks ? kBlock : 1;
  s.weight.scale_columns = blocks ? kBlock : s.weight.values.size(1);
  return s;
}

Stored int4(const std::string& name, Index group) {
  Stored s;
  s.weight.values = s.owned.emplace_back(tensor(DType::kI32, name + ".packed", golden().ints(name + ".packed")));
  s.weight.scale = s.owned.emplace_back(tensor(DType::kBF16, name + ".scale", golden().halves(name + ".scale")));
  s.weight.scale_rows = 1;
  s.weight.scale_columns = group;
  s.weight.packed_columns = golden().longs(name + ".shape")[1];
  return s;
}

struct AwqTensors {
  explicit AwqTensors(const std::string& name)
      : qweight(tensor(DType::kI32, name + ".qweight", golden().ints(name + ".qweight"))),
        qzeros(tensor(DType::kI32, name + ".qzeros", golden().ints(name + ".qzeros"))),
        scales(tensor(DType::kF16, name + ".scales", golden().halves(name + ".scales", "F16"))) {}
  AwqMatrix matrix() const { return {qweight, qzeros, scales}; }
  Tensor qweight, qzeros, scales;
};

Stored awq(const std::string& name, Index group, Index begin = 0, Index end = -1, ThreadPool* threads = nullptr) {
  const AwqTensors from(name);
  const Index inputs = from.qweight.size(0), outputs = end < 0 ? from.scales.size(1) : end;
  const Shape grid{outputs - begin, from.scales.size(0)};
  Stored s;
  const TensorRef codes = s.owned.emplace_back(DType::kI32, Shape{outputs - begin, inputs / 8}),
                  scale = s.owned.emplace_back(DType::kF16, grid), zero = s.owned.emplace_back(DType::kU8, grid);
  s.weight.values = codes;
  s.weight.scale = scale;
  s.weight.zero = zero;
  s.weight.scale_rows = 1;
  s.weight.scale_columns = group;
  s.weight.packed_columns = inputs;
  repack_awq(from.matrix(), begin, outputs, codes, zero, scale, threads);
  return s;
}

Stored stored(const std::string& name) {
  if (name == "blocks" || name == "channels") return int8(name);
  const Index group = std::stoll(name.substr(name.find('_') + 1));
  return name.starts_with("awq") ? awq(name, group) : int4(name, group);
}

TEST(QuantizeInt8, BlocksAreExact) {
  Context ctx(2);
  const Tensor x = floats("blocks.in"), codes(DType::kI8, x.shape()), scale(DType::kF32, {2, 2});
  quantize_int8_blocks(ctx, x, codes, scale);
  const Stored expected = int8("blocks");
  EXPECT_TRUE(same_bytes(codes, expected.weight.values));
  EXPECT_TRUE(same_bytes(scale, expected.weight.scale));
}

TEST(QuantizeInt8, RowsAreExact) {
  Context ctx(2);
  const Tensor x = floats("channels.in"), codes(DType::kI8, x.shape()), scale(DType::kF32, {x.size(0), 1});
  quantize_int8_rows(ctx, x, codes, scale);
  const Stored expected = int8("channels");
  EXPECT_TRUE(same_bytes(codes, expected.weight.values));
  EXPECT_TRUE(same_bytes(scale, expected.weight.scale));
}

TEST(QuantizeInt4, CodesAndScalesAreExact) {
  Context ctx(2);
  for (const auto& [name, group] : {std::pair<std::string, Index>{"int4_32", 32}, {"int4_128", 128}}) {
    const Tensor x = floats(name + ".in"), packed(DType::kI32, shape_of(name + ".packed")),
                 scale(DType::kBF16, shape_of(name + ".scale"));
    quantize_int4(ctx, x, group, packed, scale);
    const Stored expected = int4(name, group);
    EXPECT_TRUE(same_bytes(packed, expected.weight.values)) << name;
    EXPECT_TRUE(same_bytes(scale, expected.weight.scale)) << name;
  }
}

// Codes have no NaN: the scale must tell.
TEST(QuantizeInt, DamageShowsInTheScale) {
  Context ctx(1);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const Tensor x = Tensor::zeros(DType::kF32, {2, 64}), codes(DType::kI8, {2, 64}), one(DType::kF32, {1, 1}),
                 rows(DType::kF32, {2, 1}), packed(DType::kI32, {2, 8}), groups(DType::kBF16, {2, 2});
    std::fill_n(x->data<float>(), 128, 1.0f);
    x->data<float>()[40] = bad;
    quantize_int8_blocks(ctx, x, codes, one);
    EXPECT_FALSE(std::isfinite(one->data<float>()[0]));
    quantize_int8_rows(ctx, x, codes, rows);
    EXPECT_FALSE(std::isfinite(rows->data<float>()[0]));
    EXPECT_TRUE(std::isfinite(rows->data<float>()[1]));
    quantize_int4(ctx, x, 32, packed, groups);
    for (Index i = 0; i < 4; ++i) EXPECT_EQ(std::isfinite(bf16_to_float(groups->data<bf16>()[i])), i != 1) << i;
  }
}

class IntegerFormat : public ::testing::TestWithParam<const char*> {
 protected:
  std::string name = GetParam();
  Stored s = stored(name);
  Context ctx{2};

  std::vector<double> expected() const { return golden().doubles(name + ".y"); }
};

TEST_P(IntegerFormat, ValuesAreExact) {
  const Tensor values(DType::kF32, {s.weight.num_rows(), s.weight.num_columns()});
  dequantize(ctx, s.weight, values);
  EXPECT_TRUE(same_bytes(values, floats(name + ".values")));
}

TEST_P(IntegerFormat, ProductsAgree) {
  const auto y = expected();
  const Tensor x = floats(name + ".x");
  for (const Isa isa : {Isa::kRef, best_isa()}) {
    Context by(2, isa);
    const TensorRef got = linear(by, x, s.weight);
    double largest = 0, worst = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      largest = std::max(largest, std::abs(y[i]));
      worst = std::max(worst, std::abs(got.data<float>()[i] - y[i]));
    }
    // INT4 weights meet an x of 16 bits in AVX2; fixed_point_test has the model of it.
    const bool words = isa == Isa::kAvx2 && s.weight.is_int4();
    EXPECT_LE(worst, largest * (words ? 1e-4 : 1e-6)) << isa_name(isa);
  }
}

// Heads of kv_b_proj are slices of rows that need not begin where a block of scales does.
TEST_P(IntegerFormat, SlicesOfRowsGiveTheirPartOfTheProduct) {
  const Tensor x = floats(name + ".x");
  const Index n = s.weight.num_rows(), begin = n / 3, rows = n / 4;
  const auto whole = linear(ctx, x, s.weight).view<float, 2>();
  const TensorRef heads = ctx.workspace.floats({x.size(0), 1, rows});
  expand(ctx, x->reshape({x.size(0), 1, x.size(1)}), s.weight, begin, n, heads);
  for (Index t = 0; t < x.size(0); ++t)
    for (Index r = 0; r < rows; ++r) EXPECT_FLOAT_EQ(heads.data<float>()[t * rows + r], whole(t, begin + r));
}

TEST_P(IntegerFormat, AbsorbIsTheTransposedProduct) {
  const Index n = s.weight.num_rows(), k = s.weight.num_columns(), begin = n / 3, rows = n / 4;
  const Tensor x(DType::kF32, {1, 1, rows});
  for (Index r = 0; r < rows; ++r) x->data<float>()[r] = static_cast<float>(r % 7) - 3;
  const auto values = golden().floats(name + ".values");
  const TensorRef got = absorb(ctx, x, s.weight, begin, n);
  for (Index c = 0; c < k; ++c) {
    double sum = 0, size = 1e-30;
    for (Index r = 0; r < rows; ++r) {
      const double term = double{x->data<float>()[r]} * values[static_cast<std::size_t>((begin + r) * k + c)];
      sum += term, size += std::abs(term);
    }
    EXPECT_NEAR(got.data<float>()[c], sum, size * 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, IntegerFormat,
                         ::testing::Values("blocks", "channels", "int4_32", "int4_128", "awq_64", "awq_128"),
                         [](const auto& p) { return std::string(p.param); });

TEST(RepackAwq, PartsAndThreadsGiveTheSameBytes) {
  ThreadPool threads(3);
  const Stored whole = awq("awq_128", 128), parallel = awq("awq_128", 128, 0, -1, &threads);
  EXPECT_TRUE(same_bytes(whole.weight.values, parallel.weight.values));
  EXPECT_TRUE(same_bytes(whole.weight.zero, parallel.weight.zero));
  EXPECT_TRUE(same_bytes(whole.weight.scale, parallel.weight.scale));
  const Stored part = awq("awq_128", 128, 8, 136);
  EXPECT_TRUE(same_bytes(part.weight.values, whole.weight.values.rows(8, 136)));
  EXPECT_TRUE(same_bytes(part.weight.zero, whole.weight.zero.rows(8, 136)));
  EXPECT_TRUE(same_bytes(part.weight.scale, whole.weight.scale.rows(8, 136)));
}

}  // namespace
}  // namespace hadal::ops
