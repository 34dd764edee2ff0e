#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "hadal/ops/saving.h"

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
  std::vector<ConstTensorRef> pages = pages_of(entries);
  TensorRef run(Context& ctx, const std::vector<CachedRows>& rows) const {
    return attend_absorbed(ctx, q, q_pe, rows, 0.25);
  }
};

TEST(AttendAbsorbed, PagesMayLieAnywhere) {
  const Pass p;
  ASSERT_EQ(p.pages.size(), 3u);
  EXPECT_EQ(p.pages[2].shape(), Shape({44, 20}));
  std::vector<Tensor> copies;
  std::vector<ConstTensorRef> scattered;
  for (const ConstTensorRef& page : p.pages) copies.push_back(Tensor::copy_of(page));
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
  const std::vector<ConstTensorRef> pages = {narrow};
  EXPECT_THAT(said({.begin = 0, .end = 3, .first_position = 0, .pages = pages}), HasSubstr("for entries of 20 values"));
  EXPECT_THAT(message([&] {
                const Tensor other = numbers({3, 5, 4}, 5);
                attend_absorbed(ctx, p.q, other, {}, 1);
              }),
              HasSubstr("q_latent [3, 4, 16], q_pe [3, 5, 4]"));
}

// Against the sum as it is written.
TEST(AttendExpanded, GivesLogSumExp) {
  constexpr Index kTokens = 5, kHeads = 3, kNope = 8, kRope = 4, kFirst = 300;
  const Tensor q = numbers({kTokens, kHeads, kNope + kRope}, 1), kv = numbers({kFirst + kTokens, kHeads, kNope + 6}, 2),
               k_pe = numbers({kFirst + kTokens, kRope}, 3);
  for (const Isa isa : {Isa::kRef, best_isa()}) {
    Context ctx(2, isa);
    const Tensor out(DType::kF32, {kTokens, kHeads, 6}), lse(DType::kF32, {kTokens, kHeads}),
        without(DType::kF32, {kTokens, kHeads, 6});
    attend_expanded(ctx, q, kv, k_pe, kFirst, 0.5, out, lse);
    attend_expanded(ctx, q, kv, k_pe, kFirst, 0.5, without);
    EXPECT_EQ(std::memcmp(out->raw(), without->raw(), static_cast<std::size_t>(out->num_bytes())), 0);
    for (Index t = 0; t < kTokens; ++t)
      for (Index h = 0; h < kHeads; ++h) {
        double sum = 0;
        for (Index j = 0; j <= kFirst + t; ++j) {
          double score = 0;
          for (Index c = 0; c < kNope; ++c)
            score += double{q->view<float, 3>()(t, h, c)} * kv->view<float, 3>()(j, h, c);
          for (Index c = 0; c < kRope; ++c)
            score += double{q->view<float, 3>()(t, h, kNope + c)} * k_pe->view<float, 2>()(j, c);
          sum += std::exp(0.5 * score);
        }
        ASSERT_NEAR((lse->view<float, 2>()(t, h)), std::log(sum), 2e-6) << isa_name(isa) << " " << t << " " << h;
      }
  }
}

}  // namespace
}  // namespace hadal::ops
