#include "hadal/infer/page_record.h"

#include <gtest/gtest.h>

#include <cstring>

#include "hadal/core/context.h"

namespace hadal::infer {
namespace page_record_test {
namespace {

using model::CachePools;
using model::Form;
using model::kPageTokens;
using model::SequenceState;
using model::SharedPage;

config::Config tiny() {
  config::Config c;
  c.kv_lora_rank = 6;
  c.qk_rope_head_dim = 2;
  c.num_hidden_layers = 3;
  return c;
}

// Entry i of a layer of the cache: numbers that no other has.
void write(Context& ctx, model::KvCache& cache, Index count, float of_cache) {
  cache.reserve(count);
  for (Index layer = 0; layer < cache.pool().layers(); ++layer) {
    Tensor entries(DType::kF32, {count, 8});
    for (Index i = 0; i < count; ++i)
      for (Index k = 0; k < 8; ++k)
        entries.ref().view<float, 2>().row(i)[k] =
            of_cache + static_cast<float>(layer) * 10000 + static_cast<float>(i) + static_cast<float>(k) / 8;
    cache.write(ctx, layer, entries);
  }
  cache.advance(count, Form::kExpanded);
}

std::vector<float> all_of(const model::KvCache& cache) {
  std::vector<float> out;
  for (Index layer = 0; layer < cache.pool().layers(); ++layer)
    for (const ConstTensorRef& page : cache.pages(layer, 0)) {
      const auto* data = page.data<float>();
      out.insert(out.end(), data, data + page.num_elements());
    }
  return out;
}

class PageRecords : public ::testing::TestWithParam<Index> {
 protected:
  Index depths = GetParam();
  Context ctx{1};
  CachePools pools{tiny(), depths, DType::kF32};
  SequenceState state{pools, 10000};

  void SetUp() override {
    write(ctx, state.main, 400, 0);
    for (Index d = 0; d < depths; ++d)
      write(ctx, state.mtp[static_cast<std::size_t>(d)], 400 - 1 - d, 1e6f * static_cast<float>(1 + d));
  }
};

TEST_P(PageRecords, GiveASequenceWhatItWouldHaveComputed) {
  for (const Index in_memory : {0, 1, 2}) {
    CachePools others{tiny(), depths, DType::kF32};
    std::vector<SharedPage> loaded;
    for (Index i = in_memory; i < 3; ++i) {
      const auto record = to_record(pools, state.share(i, 400), i);
      loaded.push_back(*from_record(pools, record, i, loaded.empty() ? nullptr : &loaded.back()));
    }
    std::vector<SharedPage> own;
    for (Index i = 0; i < in_memory; ++i) own.push_back(state.share(i, 128 * (i + 1)));
    std::vector<const SharedPage*> pages;
    for (const SharedPage& page : own) pages.push_back(&page);
    for (const SharedPage& page : loaded) pages.push_back(&page);
    SequenceState other(pools, 10000);
    other.adopt(pages, 384 - depths, 384);
    SequenceState expected = state.fork(400);
    expected.truncate(384 - depths);
    EXPECT_EQ(all_of(other.main), all_of(expected.main));
    for (std::size_t d = 0; d < other.mtp.size(); ++d) {
      EXPECT_GE(other.mtp[d].length(), 384 - depths - 1);
      expected.mtp[d].truncate(std::min(expected.mtp[d].length(), other.mtp[d].length()));
      other.mtp[d].truncate(expected.mtp[d].length());
      EXPECT_EQ(all_of(other.mtp[d]), all_of(expected.mtp[d]));
    }
    // What is written behind is nobody else's.
    const std::vector<float> before = all_of(state.main);
    write(ctx, other.main, 60, 5e6f);
    EXPECT_EQ(all_of(state.main), before);
  }
}

TEST_P(PageRecords, OfOtherSizesOrLengthsAreRefused) {
  std::vector<std::byte> record = to_record(pools, state.share(1, 400), 1);
  EXPECT_THROW(from_record(pools, std::span(record).first(record.size() - 1), 1, nullptr), Error);
  EXPECT_THROW(from_record(pools, {}, 1, nullptr), Error);
  EXPECT_THROW(to_record(pools, state.share(3, 400), 3), Error);  // 16 tokens
  const Index in_use = pools.main->in_use(), of_mtp = pools.mtp->in_use();
  if (depths > 0) {
    const std::size_t at = static_cast<std::size_t>(pools.main->page_bytes());
    for (const std::int64_t length : {std::int64_t{-1}, std::int64_t{256}, std::int64_t{1} << 62}) {
      std::memcpy(record.data() + at, &length, sizeof(length));
      EXPECT_THROW(from_record(pools, record, 1, nullptr), Error);
    }
  }
  EXPECT_EQ(pools.main->in_use(), in_use);
  EXPECT_EQ(pools.mtp->in_use(), of_mtp);
}

TEST_P(PageRecords, TakeNoPageThatIsNotThere) {
  CachePools few{tiny(), depths, DType::kF32, 1};
  const auto record = to_record(pools, state.share(0, 400), 0);
  const auto page = from_record(few, record, 0, nullptr);
  if (depths == 0) {
    ASSERT_TRUE(page);
    EXPECT_FALSE(from_record(few, record, 0, nullptr));
  } else {
    EXPECT_FALSE(page);  // MTP's might need two
  }
}

INSTANTIATE_TEST_SUITE_P(Depths, PageRecords, ::testing::Values(0, 1, 2));

TEST(PageNames, DependOnTheSaltAndOnAllTokensBefore) {
  const std::vector<config::TokenId> a(128, 1), b(128, 2);
  const PageName root = root_name("x");
  EXPECT_NE(root, root_name("y"));
  EXPECT_NE(page_name(root, a), page_name(root, b));
  EXPECT_NE(page_name(page_name(root, a), a), page_name(page_name(root, b), a));
  EXPECT_EQ(page_name(page_name(root, a), b), page_name(page_name(root_name("x"), a), b));
}

}  // namespace
}  // namespace page_record_test
}  // namespace hadal::infer
