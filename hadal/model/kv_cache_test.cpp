#include "hadal/model/kv_cache.h"

#include <gtest/gtest.h>

namespace hadal::model {
namespace {

Config tiny() {
  Config c;
  c.kv_lora_rank = 6;
  c.qk_rope_head_dim = 2;
  return c;
}

TensorRef entries(Context& ctx, Index count, float first) {
  const TensorRef t = ctx.workspace.floats({count, 8});
  for (Index i = 0; i < count * 8; ++i) t.data<float>()[i] = first + static_cast<float>(i);
  return t;
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
  const auto view = cache.read(ctx, 1, 0).view<float, 2>();
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
  EXPECT_EQ((cache.read(ctx, 0, 1).view<float, 2>()(2, 0)), 500.0f);
  EXPECT_THROW(cache.truncate(3), Error);
}

TEST(KvCache, Bf16EntriesComeBackRoundedCurrentTokenIncluded) {
  Context ctx(1);
  KvCache cache(tiny(), 1, 10, DType::kBF16);
  cache.reserve(1);
  const TensorRef e = ctx.workspace.floats({1, 8});
  for (Index i = 0; i < 8; ++i) e.data<float>()[i] = 1.0f + 0.001f * static_cast<float>(i);
  cache.write(ctx, 0, e);
  EXPECT_EQ((cache.read(ctx, 0, 1).view<float, 2>()(0, 1)), 1.0f);
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
  const auto view = cache.read(ctx, 0, 0).view<float, 2>();
  // A row's largest latent value is exact, others within 1/16; the rope part within 1/256.
  for (Index step = 0; step < 600; ++step) {
    const auto scale = static_cast<float>(step + 1);
    EXPECT_NEAR(view(step, 5), 6 * scale, 1e-6 * scale);
    EXPECT_NEAR(view(step, 0), scale, scale / 16);
    EXPECT_NEAR(view(step, 7), 8 * scale, 8 * scale / 256);
  }
  EXPECT_EQ(cache.stored(0, 0).shape(), Shape({600, 8 + 4 + 4}));
  EXPECT_THROW(KvCache(tiny(), 1, 10, DType::kI8), Error);
}

}  // namespace
}  // namespace hadal::model
