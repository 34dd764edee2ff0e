#include "hadal/ops/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace hadal::ops {
namespace {

Tensor numbers(Shape shape, Index salt) {
  Tensor t(DType::kF32, shape);
  for (Index i = 0; i < t->num_elements(); ++i)
    t->data<float>()[i] = static_cast<float>((i * 37 + salt * 11) % 101 - 50) * 0.02f;
  return t;
}

std::string message(const auto& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

struct Pass {
  Tensor q = numbers({3, 4, 16}, 1), q_pe = numbers({3, 4, 4}, 2), entries = numbers({300, 20}, 3);
  std::vector<TensorRef> pages = pages_of(entries);
  TensorRef run(Context& ctx, const std::vector<CachedRows>& rows) const {
    return attend_absorbed(ctx, q, q_pe, rows, 0.25);
  }
};

TEST(AttendAbsorbed, PagesMayLieAnywhere) {
  const Pass p;
  ASSERT_EQ(p.pages.size(), 3u);
  EXPECT_EQ(p.pages[2].shape(), Shape({44, 20}));
  std::vector<Tensor> copies;
  std::vector<TensorRef> scattered;
  for (const TensorRef& page : p.pages) copies.push_back(Tensor::copy_of(page));
  for (const Tensor& copy : copies) scattered.push_back(copy);
  for (const Isa isa : {Isa::kRef, best_isa()}) {
    Context ctx(2, isa);
    const std::vector<CachedRows> one = {{.begin = 0, .end = 3, .first_position = 297, .pages = p.pages}};
    const std::vector<CachedRows> other = {{.begin = 0, .end = 3, .first_position = 297, .pages = scattered}};
    const TensorRef a = p.run(ctx, one), b = p.run(ctx, other);
    EXPECT_EQ(std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.num_bytes())), 0);
  }
}

TEST(AttendAbsorbed, SaysWhatDoesNotFit) {
  const Pass p;
  Context ctx(1);
  const auto said = [&](CachedRows rows) { return message([&] { p.run(ctx, {rows}); }); };
  using ::testing::HasSubstr;
  EXPECT_THAT(said({.begin = 0, .end = 4, .first_position = 0, .pages = p.pages}),
              HasSubstr("attend_absorbed: rows 0 to 4 of 3"));
  EXPECT_THAT(said({.begin = 0, .end = 3, .first_position = 300, .pages = p.pages}),
              HasSubstr("page 2 is F32 [44, 20]"));
  EXPECT_THAT(said({.begin = 0, .end = 3, .first_position = 500, .pages = p.pages}),
              HasSubstr("503 entries need 4 pages, not 3"));
  const Tensor narrow = numbers({128, 19}, 4);
  const std::vector<TensorRef> pages = {narrow};
  EXPECT_THAT(said({.begin = 0, .end = 3, .first_position = 0, .pages = pages}), HasSubstr("for entries of 20 values"));
  EXPECT_THAT(message([&] {
                const Tensor other = numbers({3, 5, 4}, 5);
                attend_absorbed(ctx, p.q, other, {}, 1);
              }),
              HasSubstr("q_latent [3, 4, 16], q_pe [3, 5, 4]"));
}

}  // namespace
}  // namespace hadal::ops
