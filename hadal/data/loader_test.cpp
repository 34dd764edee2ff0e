#include "hadal/data/loader.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "hadal/data/dataset_writer.h"
#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::data {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr TokenId kEnd = 7, kFirst = 100, kSourceStep = 100000;

struct MadeSource {
  std::string name;
  std::uint64_t tokens;
  std::optional<double> weight, epochs;
};

class Loading : public testing::Test {
 protected:
  // Documents of 1 to 13 tokens; token i of source s is kFirst + s * kSourceStep + i. Several shards.
  void make(const std::vector<MadeSource>& sources) {
    DatasetInfo info;
    info.vocab_size = 1u << 24;
    info.eos = kEnd;
    DatasetWriter writer(folder_.path() / "d", info, 1000, true);
    for (std::size_t s = 0; s < sources.size(); ++s) {
      SourceInfo& source = writer.begin_source(sources[s].name);
      source.weight = sources[s].weight;
      source.epochs = sources[s].epochs;
      const auto first = kFirst + static_cast<TokenId>(s) * kSourceStep;
      std::vector<TokenId> document;
      for (std::uint64_t i = 0; i < sources[s].tokens; ++i) {
        document.push_back(first + static_cast<TokenId>(i));
        if (document.size() <= (i * 7) % 13 && i + 1 < sources[s].tokens) continue;
        last_[s].insert(document.back());
        writer.add(Split::kTrain, document, 1);
        document.clear();
      }
      writer.end_source();
    }
    writer.finish();
    data_ = std::make_unique<Dataset>(folder_.path() / "d");
    options_.block = 8;
    options_.epochs = 1;
  }

  // Everything that a loader has to give, with sizes that `sizes` chooses for each step.
  using Sizes = std::function<std::pair<Index, Index>(int step)>;
  static std::vector<std::vector<std::int32_t>> flat(const Batch& b) {
    std::vector<std::vector<std::int32_t>> out;
    for (const Tensor* t : {&b.ids, &b.targets, &b.documents}) {
      const auto* p = (*t)->data<std::int32_t>();
      out.emplace_back(p, p + t->ref().num_elements());
    }
    out.emplace_back(b.sources.begin(), b.sources.end());
    return out;
  }
  using Run = std::vector<std::vector<std::vector<std::int32_t>>>;
  static Run run(Loader& loader, const Sizes& sizes, int first = 0, int most = 1000000) {
    Run out;
    Batch batch;
    for (int step = first; step < first + most; ++step) {
      const auto [b, s] = sizes(step);
      if (!loader.next(b, s, batch)) break;
      out.push_back(flat(batch));
    }
    return out;
  }
  // How often each id came, of positions that count.
  static std::map<TokenId, int> counted(const Run& run) {
    std::map<TokenId, int> out;
    for (const auto& batch : run)
      for (std::size_t i = 0; i < batch[0].size(); ++i)
        if (batch[2][i] >= 0) ++out[batch[0][i]];
    return out;
  }
  void expect_every_token(const Run& run, const std::vector<MadeSource>& sources, int times) {
    const auto counts = counted(run);
    std::size_t expected = 0;
    for (std::size_t s = 0; s < sources.size(); ++s) {
      expected += sources[s].tokens;
      for (std::uint64_t i = 0; i < sources[s].tokens; ++i) {
        const auto it = counts.find(kFirst + static_cast<TokenId>(s) * kSourceStep + static_cast<TokenId>(i));
        ASSERT_TRUE(it != counts.end() && it->second == times) << "source " << s << ", token " << i;
      }
    }
    EXPECT_EQ(counts.size(), expected);
  }

  test::TemporaryDirectory folder_;
  std::unique_ptr<Dataset> data_;
  LoaderOptions options_;
  std::map<std::size_t, std::set<TokenId>> last_;  // of documents, by source
};

TEST_F(Loading, EveryTokenComesOnceAnEpoch) {
  for (const std::uint64_t tokens : {1u, 2u, 7u, 8u, 9u, 1000u, 1003u}) {
    const std::vector<MadeSource> sources{{"a", tokens, {}, {}}};
    make(sources);
    for (const auto& [batch, length] : std::vector<std::pair<Index, Index>>{{1, 8}, {3, 8}, {2, 4}, {5, 1}, {64, 8}}) {
      Loader loader(*data_, options_);
      const Run all = run(loader, [&](int) { return std::pair(batch, length); });
      expect_every_token(all, sources, 1);
      Batch none;
      EXPECT_FALSE(loader.next(batch, length, none));
      EXPECT_EQ(loader.state().sources[0].epoch, 1u);
    }
  }
}

TEST_F(Loading, TargetsAreTheTokensBehind) {
  make({{"a", 1003, {}, {}}});
  Loader loader(*data_, options_);
  int without = 0, filled = 0;
  for (const auto& batch : run(loader, [](int) { return std::pair<Index, Index>(3, 4); }))
    for (std::size_t i = 0; i < batch[0].size(); ++i) {
      if (batch[2][i] < 0) {
        EXPECT_EQ(batch[0][i], kEnd);
        EXPECT_EQ(batch[1][i], kIgnored);
        ++filled;
      } else if (batch[1][i] == kIgnored) {
        EXPECT_EQ(batch[0][i], kFirst + 1002);  // the last of all
        ++without;
      } else {
        EXPECT_EQ(batch[1][i], batch[0][i] + 1);
      }
    }
  EXPECT_EQ(without, 1);
  EXPECT_EQ(filled, 1 + 4);  // one position, and the last row of the last batch
}

TEST_F(Loading, EpochsHaveDifferentOrders) {
  make({{"a", 1000, {}, {}}});
  options_.epochs = 2;
  Loader loader(*data_, options_);
  const Run all = run(loader, [](int) { return std::pair<Index, Index>(1, 8); });
  expect_every_token(all, {{"a", 1000, {}, {}}}, 2);
  ASSERT_EQ(all.size(), 250u);
  EXPECT_NE(Run(all.begin(), all.begin() + 125), Run(all.begin() + 125, all.end()));
  options_.seed = 1;
  Loader other(*data_, options_);
  EXPECT_NE(run(other, [](int) { return std::pair<Index, Index>(1, 8); }), all);
  options_.shuffle = false;
  Loader straight(*data_, options_);
  const Run ascending = run(straight, [](int) { return std::pair<Index, Index>(1, 8); });
  for (std::size_t i = 0; i < ascending.size(); ++i)
    EXPECT_EQ(ascending[i][0][0], kFirst + static_cast<TokenId>(i % 125 * 8));
}

TEST_F(Loading, SizesMayChangeWithoutATokenRepeatedOrLeftOut) {
  const std::vector<MadeSource> sources{{"a", 5003, {}, {}}, {"b", 777, {}, {}}};
  make(sources);
  options_.block = 24;
  const Index lengths[] = {8, 3, 24, 1, 12, 2};
  Loader loader(*data_, options_);
  const Run all = run(loader, [&](int step) { return std::pair(Index{1 + step % 5}, lengths[step / 3 % 6]); });
  expect_every_token(all, sources, 1);
  // From longer to shorter and back, what is filled up is at most a row a source and change.
  std::size_t filled = 0, positions = 0;
  for (const auto& batch : all) {
    positions += batch[2].size();
    filled += static_cast<std::size_t>(std::count(batch[2].begin(), batch[2].end(), -1));
  }
  EXPECT_LT(filled, positions / 4);
}

TEST_F(Loading, ABlockIsAMultipleOfTheSequence) {
  make({{"a", 100, {}, {}}});
  Loader loader(*data_, options_);
  Batch batch;
  EXPECT_THAT(test::said([&] { loader.next(1, 3, batch); }), HasSubstr("3 tokens does not divide a block of 8"));
  EXPECT_THAT(test::said([&] { loader.next(1, 16, batch); }), HasSubstr("16 tokens does not divide a block of 8"));
  EXPECT_THAT(test::said([&] { loader.next(0, 8, batch); }), HasSubstr("0 sequences of 8 tokens"));
}

TEST_F(Loading, GoesOnFromAnyPointToTheSameBits) {
  make({{"a", 1003, 2, 2}, {"b", 400, 1, {}}});
  const Sizes sizes = [](int step) { return std::pair<Index, Index>(1 + step % 3, step % 7 == 6 ? 4 : 8); };
  Loader whole(*data_, options_);
  const Run all = run(whole, sizes);
  for (int stop = 0; stop <= static_cast<int>(all.size()); ++stop) {
    options_.workers = stop % 3;
    options_.prefetch = stop % 5;
    Loader first(*data_, options_);
    run(first, sizes, 0, stop);
    const std::string saved = to_json(first.state()).dump();
    Loader second(*data_, options_, parse_loader_state(io::parse_json(saved, "state"), "state"));
    EXPECT_EQ(to_json(second.state()).dump(), saved);
    ASSERT_EQ(run(second, sizes, stop), Run(all.begin() + stop, all.end())) << stop;
  }
}

TEST_F(Loading, WorkersChangeNoByte) {
  make({{"a", 3001, {}, {}}, {"b", 999, {}, {}}});
  const Sizes sizes = [](int step) { return std::pair<Index, Index>(4 + step / 10 % 2, 8); };
  std::optional<Run> expected;
  for (const int workers : {0, 1, 2, 7})
    for (const int prefetch : {0, 1, 6}) {
      options_.workers = workers;
      options_.prefetch = prefetch;
      Loader loader(*data_, options_);
      const Run all = run(loader, sizes);
      if (!expected) expected = all;
      EXPECT_EQ(all, *expected);
    }
}

TEST_F(Loading, WeightsAreKeptAtEveryMoment) {
  make({{"a", 300, 5, {}}, {"b", 20000, 3, {}}, {"c", 1000, 1, {}}});
  options_.epochs.reset();
  Loader loader(*data_, options_);
  EXPECT_FALSE(loader.total_tokens());
  Batch batch;
  const double weights[] = {5. / 9, 3. / 9, 1. / 9};
  for (int step = 1; step <= 2000; ++step) {
    ASSERT_TRUE(loader.next(1, 8, batch));
    const LoaderState state = loader.state();
    double total = 0;
    for (const auto& s : state.sources) total += static_cast<double>(s.served);
    for (int i = 0; i < 3; ++i)
      EXPECT_NEAR(static_cast<double>(state.sources[static_cast<std::size_t>(i)].served), weights[i] * total, 8)
          << step;
  }
}

TEST_F(Loading, OfTwoSourcesNoneIsFartherThanHalfASequenceFromItsShare) {
  make({{"a", 20000, 9, {}}, {"b", 2000, 1, {}}});
  options_.epochs.reset();
  Loader loader(*data_, options_);
  Batch batch;
  for (int step = 1; step <= 1000; ++step) {
    ASSERT_TRUE(loader.next(1, 8, batch));
    EXPECT_NEAR(static_cast<double>(loader.state().sources[1].served), 0.8 * step, 4.001) << step;
  }
}

TEST_F(Loading, ASourceThatHasEndedLeavesTheOthersTheirShares) {
  make({{"a", 80, 2, 1}, {"b", 8000, 2, {}}, {"c", 8000, 1, {}}});
  options_.epochs.reset();
  Loader loader(*data_, options_);
  Batch batch;
  for (int step = 0; step < 1000; ++step) ASSERT_TRUE(loader.next(1, 8, batch));
  const LoaderState state = loader.state();
  EXPECT_EQ(state.sources[0].served, 80u);
  EXPECT_NEAR(static_cast<double>(state.sources[1].served), 2 * static_cast<double>(state.sources[2].served), 16);
}

TEST_F(Loading, SharesMayBeGivenInsteadOfTheDataSets) {
  make({{"a", 1000, 1, 1}, {"b", 1000, 1, 1}});
  options_.mixture = {{"a", {1, 2.5}}, {"b", {3, 0.1}}};
  Loader loader(*data_, options_);
  EXPECT_EQ(loader.total_tokens(), 2600u);
  const auto counts = counted(run(loader, [](int) { return std::pair<Index, Index>(2, 8); }));
  int a = 0, b = 0;
  for (const auto& [id, n] : counts) (id < kFirst + kSourceStep ? a : b) += n;
  EXPECT_EQ(a, 2500);
  EXPECT_EQ(b, 100);
  options_.mixture = {{"x", {}}};
  EXPECT_THAT(test::said([&] { Loader(*data_, options_); }), HasSubstr("has no source x"));
  options_.mixture = {{"a", {-1., {}}}};
  EXPECT_THAT(test::said([&] { Loader(*data_, options_); }), HasSubstr("source a: weight is -1"));
}

TEST_F(Loading, DocumentsAreTold) {
  make({{"a", 1003, {}, {}}});
  for (const bool within : {false, true}) {
    options_.within_documents = within;
    Loader loader(*data_, options_);
    for (const auto& batch : run(loader, [](int) { return std::pair<Index, Index>(3, 8); }))
      for (std::size_t i = 0; i < batch[0].size(); ++i) {
        if (batch[2][i] < 0) continue;
        const bool new_row = i % 8 == 0, last = last_[0].contains(batch[0][i]);
        const bool behind_last = !new_row && last_[0].contains(batch[0][i - 1]);
        EXPECT_EQ(batch[2][i], new_row ? 0 : batch[2][i - 1] + (behind_last ? 1 : 0));
        EXPECT_EQ(batch[1][i] == kIgnored, last && (within || batch[0][i] == kFirst + 1002));
      }
  }
}

TEST_F(Loading, RowsTellTheirSource) {
  make({{"a", 500, 1, {}}, {"b", 500, 1, {}}});
  Loader loader(*data_, options_);
  for (const auto& batch : run(loader, [](int) { return std::pair<Index, Index>(3, 8); }))
    for (std::size_t row = 0; row < 3; ++row)
      EXPECT_EQ(batch[3][row], batch[2][8 * row] < 0 ? -1 : (batch[0][8 * row] - kFirst) / kSourceStep);
}

TEST_F(Loading, DamageIsAnErrorAndTheStateStays) {
  make({{"a", 2000, {}, {}}});
  const fs::path path = folder_.path() / "d/a-train-00001.tokens";
  std::string bytes = io::read_text_file(path);
  bytes[kShardHeader + 3] ^= 1;
  std::ofstream(path, std::ios::binary) << bytes;
  for (const int workers : {0, 2}) {
    options_.workers = workers;
    Loader loader(*data_, options_);
    std::string before, what;
    Batch batch;
    do {
      before = to_json(loader.state()).dump();
      what = test::said([&] { loader.next(2, 8, batch); });
    } while (what == "nothing");
    EXPECT_THAT(what, HasSubstr("a-train-00001.tokens: bytes 256 to"));
    EXPECT_EQ(to_json(loader.state()).dump(), before);
    EXPECT_EQ(test::said([&] { loader.next(2, 8, batch); }), what);
  }
}

TEST_F(Loading, AStateOfOtherDataIsRefused) {
  make({{"a", 100, {}, {}}});
  const LoaderState good = Loader(*data_, options_).state();
  const auto said = [&](auto change) {
    LoaderState state = good;
    change(state);
    return test::said([&] { Loader(*data_, options_, state); });
  };
  EXPECT_EQ(said([](LoaderState&) {}), "nothing");
  EXPECT_THAT(said([](LoaderState& s) { s.dataset[0] ^= 1; }), HasSubstr("was saved with other data than"));
  EXPECT_THAT(said([](LoaderState& s) { s.seed = 4; }), HasSubstr("was saved with seed 4, not 0"));
  EXPECT_THAT(said([](LoaderState& s) { s.block = 16; }), HasSubstr("blocks of 16 tokens, not 8"));
  EXPECT_THAT(said([](LoaderState& s) { s.split = Split::kValidation; }), HasSubstr("is of the validation split"));
  EXPECT_THAT(said([](LoaderState& s) { s.shuffle = false; }), HasSubstr("without shuffling"));
  EXPECT_THAT(said([](LoaderState& s) { s.sources[0].name = "b"; }), HasSubstr("source b where the data set has a"));
  EXPECT_THAT(said([](LoaderState& s) { s.sources[0].block = 13; }), HasSubstr("stands at block 13"));
  EXPECT_THAT(said([](LoaderState& s) { s.sources[0].offset = 8; }), HasSubstr("token 8, which it has not"));
  EXPECT_THAT(said([](LoaderState& s) { s.sources.clear(); }), HasSubstr("has 0 sources"));
  const auto parsed = [&](auto change) {
    io::Json json = to_json(good);
    change(json);
    return test::said([&] { parse_loader_state(json, "state"); });
  };
  EXPECT_THAT(parsed([](auto& j) { j["seed"] = -1; }), HasSubstr("state: seed must be a whole number"));
  EXPECT_THAT(parsed([](auto& j) { j.erase("dataset"); }), HasSubstr("dataset must be text"));
  EXPECT_THAT(parsed([](auto& j) { j["split"] = "x"; }), HasSubstr("split is x"));
  EXPECT_THAT(parsed([](auto& j) { j["sources"] = 1; }), HasSubstr("sources must be a list"));
  EXPECT_THAT(parsed([](auto& j) { j["sources"][0] = 1; }), HasSubstr("name must be text"));
  EXPECT_THAT(parsed([](auto& j) { j = 1; }), HasSubstr("dataset must be text"));
}

TEST_F(Loading, SharesOfTrainingAreNotThoseOfValidation) {
  DatasetInfo info;
  info.vocab_size = 1000;
  DatasetWriter writer(folder_.path() / "d", info, 1000, true);
  for (const char* name : {"a", "b"}) {
    SourceInfo& source = writer.begin_source(name);
    source.weight = 5;
    source.epochs = 3;
    for (TokenId i = 0; i < 100; ++i) writer.add(Split::kValidation, std::vector<TokenId>{i}, 1);
    if (name[0] == 'a') writer.add(Split::kTrain, std::vector<TokenId>{1}, 1);
    writer.end_source();
  }
  writer.finish();
  const Dataset data(folder_.path() / "d");
  options_.block = 8;
  options_.split = Split::kValidation;
  options_.epochs = 1;
  EXPECT_EQ(Loader(data, options_).total_tokens(), 200u);
  options_.split = Split::kTrain;
  EXPECT_EQ(Loader(data, options_).total_tokens(), 3u);
}

TEST_F(Loading, ASplitWithoutTokensIsRefused) {
  make({{"a", 100, {}, {}}});
  options_.split = Split::kValidation;
  EXPECT_THAT(test::said([&] { Loader(*data_, options_); }),
              HasSubstr("has no validation tokens; build it with --validation"));
}

}  // namespace
}  // namespace hadal::data
