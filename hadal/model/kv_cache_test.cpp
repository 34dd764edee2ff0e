#include "hadal/model/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

namespace hadal::model {
namespace kv_cache_test {
namespace {

config::Config tiny() {
  config::Config c;
  c.kv_lora_rank = 6;
  c.qk_rope_head_dim = 2;
  return c;
}

TensorRef entries(Context& ctx, Index count, float first) {
  const TensorRef t = ctx.workspace.floats({count, 8});
  for (Index i = 0; i < count * 8; ++i) t.data<float>()[i] = first + static_cast<float>(i);
  return t;
}

// Entries [0, length + count) of a layer as float32.
ConstTensorRef read(Context& ctx, const KvCache& cache, Index layer, Index count) {
  return ops::read_entries(ctx, {cache.pages(layer, count), cache.fp8_entry()}, 0, cache.length() + count);
}

TEST(KvCache, KeepsItsEntriesWhenItGrows) {
  Context ctx(1);
  KvCache cache(tiny(), 2, 1000);
  for (Index step = 0; step < 900; ++step) {
    cache.reserve(1);
    for (Index layer = 0; layer < 2; ++layer)
      cache.write(ctx, layer, entries(ctx, 1, static_cast<float>(step * 100 + layer)));
    cache.advance(1, step < 500 ? Form::kExpanded : Form::kAbsorbed);
  }
  const auto view = read(ctx, cache, 1, 0).view<float, 2>();
  ASSERT_EQ(view.shape[0], 900);
  for (Index step = 0; step < 900; ++step) EXPECT_EQ(view(step, 7), static_cast<float>(step * 100 + 1 + 7));
  EXPECT_EQ(cache.forms()[499], Form::kExpanded);
  EXPECT_EQ(cache.forms()[500], Form::kAbsorbed);
}

TEST(KvCache, RefusesMoreThanItsCapacity) {
  KvCache cache(tiny(), 1, 10);
  cache.reserve(10);
  EXPECT_THROW(cache.reserve(11), InvalidRequest);
}

TEST(KvCache, Rule40_TruncationForgetsTheEnd) {
  Context ctx(1);
  KvCache cache(tiny(), 1, 10);
  cache.reserve(4);
  cache.write(ctx, 0, entries(ctx, 4, 0));
  cache.advance(4, Form::kExpanded);
  cache.truncate(2);
  cache.reserve(1);
  cache.write(ctx, 0, entries(ctx, 1, 500));
  EXPECT_EQ((read(ctx, cache, 0, 1).view<float, 2>()(2, 0)), 500.0f);
  EXPECT_THROW(cache.truncate(3), Error);
}

TEST(KvCache, Bf16EntriesComeBackRoundedCurrentTokenIncluded) {
  Context ctx(1);
  KvCache cache(tiny(), 1, 10, DType::kBF16);
  cache.reserve(1);
  const TensorRef e = ctx.workspace.floats({1, 8});
  for (Index i = 0; i < 8; ++i) e.data<float>()[i] = 1.0f + 0.001f * static_cast<float>(i);
  cache.write(ctx, 0, e);
  EXPECT_EQ((read(ctx, cache, 0, 1).view<float, 2>()(0, 1)), 1.0f);
}

TEST(KvCache, Fp8EntriesComeBackRoundedAndSurviveGrowth) {
  Context ctx(1);
  KvCache cache(tiny(), 1, 1000, DType::kF8E4M3);
  const TensorRef e = ctx.workspace.floats({1, 8});
  for (Index step = 0; step < 600; ++step) {
    for (Index i = 0; i < 8; ++i) e.data<float>()[i] = static_cast<float>(i + 1) * static_cast<float>(step + 1);
    cache.reserve(1);
    cache.write(ctx, 0, e);
    cache.advance(1, Form::kAbsorbed);
  }
  const auto view = read(ctx, cache, 0, 0).view<float, 2>();
  // A row's largest latent value is exact, others within 1/16; the rope part within 1/256.
  for (Index step = 0; step < 600; ++step) {
    const auto scale = static_cast<float>(step + 1);
    EXPECT_NEAR(view(step, 5), 6 * scale, 1e-6 * scale);
    EXPECT_NEAR(view(step, 0), scale, scale / 16);
    EXPECT_NEAR(view(step, 7), 8 * scale, 8 * scale / 256);
  }
  ASSERT_EQ(cache.pages(0, 0).size(), 5u);
  EXPECT_EQ(cache.pages(0, 0)[0].shape(), Shape({128, 8 + 4 + 4}));
  EXPECT_EQ(cache.pages(0, 0)[4].shape(), Shape({600 - 4 * 128, 8 + 4 + 4}));
  EXPECT_THROW(KvCache(tiny(), 1, 10, DType::kI8), Error);
}

// Appends tokens whose entries tell who wrote them and where they stand.
void append(Context& ctx, KvCache& cache, Index count, float writer) {
  const Workspace::Scope scope(ctx.workspace);
  ASSERT_TRUE(cache.try_reserve(count));
  for (Index layer = 0; layer < cache.pool().layers(); ++layer) {
    const TensorRef e = ctx.workspace.floats({count, 8});
    for (Index i = 0; i < count * 8; ++i)
      e.data<float>()[i] = writer + static_cast<float>(cache.length() + i / 8) + 0.25f * static_cast<float>(layer);
    cache.write(ctx, layer, e);
  }
  cache.advance(count, Form::kExpanded);
}

void expect_tokens(Context& ctx, const KvCache& cache, Index begin, Index end, float writer) {
  for (Index layer = 0; layer < cache.pool().layers(); ++layer) {
    const Workspace::Scope scope(ctx.workspace);
    const auto view = read(ctx, cache, layer, 0).view<float, 2>();
    for (Index i = begin; i < end; ++i)
      ASSERT_EQ(view(i, 3), writer + static_cast<float>(i) + 0.25f * static_cast<float>(layer)) << i << " of " << layer;
  }
}

TEST(KvCache, PagesAreTheEntriesInOrderHoweverTheyWereWritten) {
  Context ctx(1);
  KvCache cache(tiny(), 3, 1000);
  for (const Index count : {1, 126, 1, 1, 300, 127}) append(ctx, cache, count, 1000);
  expect_tokens(ctx, cache, 0, 556, 1000);
  Index row = 0;
  for (const ConstTensorRef& page : cache.pages(2, 0)) {
    EXPECT_EQ(page.size(0), std::min<Index>(128, 556 - row));
    for (Index i = 0; i < page.size(0); ++i, ++row)
      EXPECT_EQ((page.view<float, 2>()(i, 0)), 1000.5f + static_cast<float>(row));
  }
  EXPECT_EQ(row, 556);
}

TEST(KvCache, TruncationGivesPagesBack) {
  Context ctx(1);
  const auto pool = std::make_shared<PagePool>(tiny(), 2, DType::kF32);
  KvCache cache(pool, 1000);
  append(ctx, cache, 500, 0);
  EXPECT_EQ(pool->in_use(), 4);
  cache.truncate(257);
  EXPECT_EQ(pool->in_use(), 3);
  cache.truncate(256);
  EXPECT_EQ(pool->in_use(), 2);
  append(ctx, cache, 100, 9000);
  expect_tokens(ctx, cache, 0, 256, 0);
  expect_tokens(ctx, cache, 256, 356, 9000);
  cache = KvCache(pool, 10);
  EXPECT_EQ(pool->in_use(), 0);
  EXPECT_EQ(pool->bytes(), 4 * pool->page_bytes()) << "kept for others";
  EXPECT_EQ(pool->page_bytes(), 2u * 128 * 8 * 4);
}

TEST(KvCache, ForksShareWholePagesAndCopyThePageTheyWriteInto) {
  Context ctx(1);
  const auto pool = std::make_shared<PagePool>(tiny(), 2, DType::kF32);
  KvCache first(pool, 1000);
  append(ctx, first, 300, 0);
  KvCache second = first.fork(200), third = first.fork(256);
  EXPECT_EQ(pool->in_use(), 3);
  EXPECT_EQ(second.length(), 200);
  append(ctx, second, 100, 5000);  // copies page 1
  EXPECT_EQ(pool->in_use(), 5);
  append(ctx, third, 10, 7000);  // whole pages are shared: a new one
  EXPECT_EQ(pool->in_use(), 6);
  append(ctx, first, 60, 0);
  expect_tokens(ctx, first, 0, 360, 0);
  expect_tokens(ctx, second, 0, 200, 0);
  expect_tokens(ctx, second, 200, 300, 5000);
  expect_tokens(ctx, third, 0, 256, 0);
  expect_tokens(ctx, third, 256, 266, 7000);
  first = KvCache(pool, 1);
  expect_tokens(ctx, third, 0, 256, 0);
  third.truncate(0);
  second.truncate(0);
  EXPECT_EQ(pool->in_use(), 0);
  EXPECT_THROW(third.fork(1), Error);
}

TEST(KvCache, WhoeverSharedThePageFirstCopiesItToo) {
  Context ctx(1);
  KvCache first(tiny(), 1, 1000, DType::kF8E4M3);
  append(ctx, first, 100, 0);
  KvCache second = first.fork(100);
  const auto before = read(ctx, second, 0, 0).view<float, 2>();
  append(ctx, first, 5, 0);
  append(ctx, second, 5, 400);
  const auto a = read(ctx, first, 0, 0).view<float, 2>(), b = read(ctx, second, 0, 0).view<float, 2>();
  for (Index i = 0; i < 100; ++i) EXPECT_EQ(a(i, 7), before(i, 7));
  for (Index i = 0; i < 100; ++i) EXPECT_EQ(b(i, 7), before(i, 7));
  EXPECT_EQ(a(102, 7), 102);
  EXPECT_EQ(b(102, 7), 502);
}

TEST(KvCache, APoolThatIsUsedUpChangesNothing) {
  Context ctx(1);
  const auto pool = std::make_shared<PagePool>(tiny(), 1, DType::kBF16, 3);
  KvCache a(pool, 1000), b(pool, 1000);
  append(ctx, a, 200, 0);
  EXPECT_TRUE(b.try_reserve(128));
  EXPECT_FALSE(b.try_reserve(129));
  EXPECT_FALSE(a.try_reserve(57));
  EXPECT_TRUE(a.try_reserve(56));
  EXPECT_THROW(a.reserve(57), InvalidRequest);
  EXPECT_EQ(pool->available(), 0);
  KvCache shared = a.fork(150);
  EXPECT_FALSE(shared.try_reserve(1)) << "the copy of a page needs a page";
  b.truncate(0);
  EXPECT_TRUE(shared.try_reserve(1));
  EXPECT_EQ(pool->available(), 0);
}

}  // namespace
}  // namespace kv_cache_test
}  // namespace hadal::model
