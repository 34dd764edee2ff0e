// A model larger than memory gives the bits of one that is in memory, whatever the budget, threads, chunks and backend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "hadal/io/safetensors.h"
#include "hadal/stream/loader.h"
#include "hadal/stream/row_groups.h"
#include "hadal/stream/use_counts.h"
#include "tests/support/temporary_directory.h"

namespace hadal::model {

using config::load_config;
using stream::ExpertStats;
using stream::load_model;
using stream::LoadedModel;
using stream::worth_grouping;
namespace streaming_test {
namespace {

using ::testing::HasSubstr;
using Backend = io::AsyncReader::Backend;

struct How {
  int threads = 2;
  Index chunk = 1 << 20;
  bool absorbed = false;  // one token at a time
};

const std::filesystem::path kModels = HADAL_TEST_DATA "/golden/models";

std::vector<TokenId> some_ids(const Config& c) {
  std::vector<TokenId> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(static_cast<TokenId>((i * 7919 + i * i * 31) % c.vocab_size));
  return ids;
}

std::vector<float> logits_of(const LoadedModel& model, const How& how) {
  std::vector<float> main, mtp;
  const auto append = [](std::vector<float>& all, const ConstTensorRef& t) {
    all.insert(all.end(), t.data<float>(), t.data<float>() + t.num_elements());
  };
  Context ctx(how.threads);
  const Transformer& t = model.transformer;
  const std::vector<TokenId> ids = some_ids(t.config);
  const auto total = static_cast<Index>(ids.size());
  SequenceState state = t.new_sequence(total);
  const Form form = how.absorbed ? Form::kAbsorbed : Form::kExpanded;
  for (Index begin = 0, end = 0; begin < total; begin = end) {
    end = how.absorbed ? begin + 1 : std::min(total, begin + how.chunk);
    const Workspace::Scope scope(ctx.workspace);
    const auto part = std::span(ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    const TensorRef hidden = t.hidden(ctx, part, form, state);
    append(main, t.logits(ctx, hidden));
    const Index rows = std::min(end, total - 1) - begin;
    if (t.mtp.empty() || rows <= 0) continue;
    const auto next = std::span(ids).subspan(static_cast<std::size_t>(begin + 1), static_cast<std::size_t>(rows));
    append(mtp, t.mtp_logits(ctx, 0, t.mtp_hidden(ctx, 0, next, hidden.rows(0, rows), form, state)));
  }
  main.insert(main.end(), mtp.begin(), mtp.end());
  return main;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

LoadedModel streamed(const std::filesystem::path& directory, std::uint64_t memory, Backend backend = Backend::kAuto,
                     const std::filesystem::path& counts = {}) {
  return load_model(directory,
                    {.mtp = true, .stream = {.memory = memory, .counts_directory = counts, .backend = backend}});
}

// Of a model just too large: what stays in memory and what an expert takes.
ExpertStats sizes_of(const std::filesystem::path& directory) {
  const LoadedModel resident = load_model(directory, {.mtp = true});
  std::uint64_t memory = 0;
  for (const Tensor& t : resident.owned) memory += static_cast<std::uint64_t>(t->num_bytes());
  memory += resident.files->total_bytes();
  for (;; memory -= memory / 64) {
    const LoadedModel model = streamed(directory, memory);
    if (model.store) return model.store->stats();
  }
}

std::uint64_t least_memory(const std::filesystem::path& directory) {
  const ExpertStats sizes = sizes_of(directory);
  const auto k = static_cast<std::uint64_t>(load_config(directory).num_experts_per_tok);
  return sizes.resident_bytes + 2 * k * sizes.expert_bytes;
}

class StreamedModel : public ::testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path directory = kModels / GetParam();
  LoadedModel resident = load_model(directory, {.mtp = true});
};

TEST_P(StreamedModel, RearrangedHasTheBitsOfTheModelInMemory) {
  Context ctx(2);
  if (ctx.numerics.isa == Isa::kRef) GTEST_SKIP() << "this CPU has no AVX2";
  const std::uint64_t memory = least_memory(directory) + 3 * sizes_of(directory).expert_bytes;
  LoadedModel model = load_model(
      directory, {.mtp = true, .stream = {.memory = memory, .counts_directory = {}}, .ctx = &ctx, .rearrange = true});
  ASSERT_TRUE(model.store);
  int grouped = 0;
  bool experts_can = false;
  model.transformer.for_each_param([&](const std::string& name, Weight& w, const ParamInfo& info) {
    grouped += static_cast<bool>(w.packed);
    if (!info.routed_expert) return;
    EXPECT_FALSE(w.packed) << name;
    experts_can = experts_can || worth_grouping(ctx, w);
  });
  EXPECT_GT(grouped, 0);
  for (const bool absorbed : {false, true})
    EXPECT_TRUE(same_bits(logits_of(resident, {.absorbed = absorbed}), logits_of(model, {.absorbed = absorbed})));
  EXPECT_EQ(model.store->stats().rearranged > 0, experts_can);
}

TEST_P(StreamedModel, HasTheBitsOfTheModelInMemory) {
  const std::uint64_t least = least_memory(directory);
  const std::uint64_t expert = sizes_of(directory).expert_bytes;
  const std::vector<float> prompt = logits_of(resident, {}), decode = logits_of(resident, {.absorbed = true});
  for (const std::uint64_t memory : {least, least + 3 * expert})
    for (const Backend backend : {Backend::kAuto, Backend::kThreads}) {
      const LoadedModel model = streamed(directory, memory, backend);
      ASSERT_TRUE(model.store);
      for (const int threads : {1, 2, 3}) {
        EXPECT_TRUE(same_bits(prompt, logits_of(model, {.threads = threads}))) << threads << " threads";
        EXPECT_TRUE(same_bits(prompt, logits_of(model, {.threads = threads, .chunk = 7}))) << threads << " threads";
        EXPECT_TRUE(same_bits(decode, logits_of(model, {.threads = threads, .absorbed = true}))) << threads;
      }
      const ExpertStats stats = model.store->stats();
      EXPECT_GT(stats.misses, 0u);
      EXPECT_GT(stats.prefetched, 0u);
      EXPECT_LE(static_cast<std::uint64_t>(stats.slots) * stats.expert_bytes + stats.resident_bytes, memory);
    }
}

TEST_P(StreamedModel, TooLittleMemoryIsOneSentenceWithTheLeast) {
  const std::uint64_t least = least_memory(directory);
  try {
    streamed(directory, least - 1);
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr(fmt::format("at least {} MB", (least + 999'999) / 1'000'000)));
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
  }
  EXPECT_FALSE(
      load_model(directory, {.mtp = true, .stream = {.memory = least - 1, .strict = false, .counts_directory = {}}})
          .store);
}

TEST_P(StreamedModel, OneThatFitsStaysMapped) {
  const LoadedModel model = streamed(directory, std::uint64_t{1} << 40);
  EXPECT_FALSE(model.store);
  EXPECT_TRUE(same_bits(logits_of(resident, {}), logits_of(model, {})));
}

INSTANTIATE_TEST_SUITE_P(Models, StreamedModel,
                         ::testing::Values("v3-tiny", "v3-tiny-fp8", "moonlight-tiny", "v2-lite-tiny", "v2-tiny"),
                         [](const auto& p) {
                           std::string name = p.param;
                           std::erase(name, '-');
                           return name;
                         });

class ChangedModel : public ::testing::Test {
 protected:
  void SetUp() override {
    directory = temporary.path() / "m";
    std::filesystem::copy(kModels / "moonlight-tiny", directory);
    file = directory / "model.safetensors";
  }
  std::string error_of(const LoadedModel& model) {
    try {
      logits_of(model, {.absorbed = true});
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  test::TemporaryDirectory temporary;
  std::filesystem::path directory, file;
};

TEST_F(ChangedModel, IsOneSentence) {
  const LoadedModel model = streamed(directory, least_memory(directory));
  EXPECT_EQ(error_of(model), "");
  std::filesystem::last_write_time(file, std::filesystem::last_write_time(file) + std::chrono::seconds(2));
  EXPECT_THAT(error_of(model), HasSubstr(file.string() + ": was changed while it was in use"));
}

TEST_F(ChangedModel, AFileThatIsReplacedGoesOnAsItWas) {
  const LoadedModel model = streamed(directory, least_memory(directory));
  const std::vector<float> before = logits_of(model, {});
  std::ofstream(directory / "other") << "something else";
  std::filesystem::rename(directory / "other", file);
  EXPECT_TRUE(same_bits(before, logits_of(model, {})));
}

TEST_F(ChangedModel, AReadThatFailsNamesFileAndTensor) {
  const io::CheckpointFiles files(directory);
  // The experts lie in the file's order: cut in the middle of the last one's bytes.
  const LoadedModel model = streamed(directory, least_memory(directory));
  const io::TensorInfo* last = nullptr;
  for (const io::TensorInfo& t : files.shards()[0].tensors())
    if (t.name.find(".experts.") != t.name.npos) last = &t;
  ASSERT_TRUE(last);
  std::filesystem::resize_file(file, last->begin + 10);
  const std::string name = last->name;
  const Index layer = std::stoll(name.substr(std::strlen("model.layers."))),
              first = model.transformer.config.first_k_dense_replace;
  const Index expert = std::stoll(name.substr(name.find(".experts.") + std::strlen(".experts.")));
  auto lease = model.store->acquire(layer - first, {expert});
  try {
    lease.next();
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr(file.string() + ": tensor " + name + " cannot be read: the file ends at byte"));
    EXPECT_THAT(e.what(), HasSubstr("was changed while it was in use"));
  }
}

// A header that is not padded leaves every BF16 tensor at an odd address.
TEST_F(ChangedModel, TensorsAtOddAddressesAreReadAsWell) {
  std::string bytes;
  {
    std::ifstream in(file, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  bytes.insert(8 + length, (length + 8) % 2 == 0 ? " " : "  ");
  length += (length + 8) % 2 == 0 ? 1 : 2;
  std::memcpy(bytes.data(), &length, 8);
  std::ofstream(file, std::ios::binary) << bytes;
  const LoadedModel in_memory = load_model(kModels / "moonlight-tiny");
  const std::vector<float> expected = logits_of(in_memory, {});
  EXPECT_TRUE(same_bits(expected, logits_of(load_model(directory), {})));
  const LoadedModel model = streamed(directory, least_memory(directory));
  ASSERT_TRUE(model.store);
  EXPECT_TRUE(same_bits(expected, logits_of(model, {})));
}

TEST_F(ChangedModel, UseIsRemembered) {
  const auto counts = temporary.path() / "cache";
  const std::uint64_t memory = least_memory(directory);
  const Config c = load_config(directory);
  const Index layers = c.num_hidden_layers - c.first_k_dense_replace;
  // Every token of both runs chose its experts in every layer.
  const auto uses = [&] {
    stream::UseCounts kept(layers, c.n_routed_experts);
    kept.load(std::filesystem::directory_iterator(counts)->path());
    std::uint64_t sum = 0;
    for (Index layer = 0; layer < layers; ++layer)
      for (Index e = 0; e < c.n_routed_experts; ++e) sum += kept.count(layer, e);
    return sum;
  };
  logits_of(streamed(directory, memory, Backend::kAuto, counts), {.absorbed = true});
  ASSERT_TRUE(std::filesystem::exists(counts));
  EXPECT_THAT(std::filesystem::directory_iterator(counts)->path().filename().string(),
              ::testing::StartsWith("experts-"));
  const auto chosen = static_cast<std::uint64_t>(c.num_experts_per_tok);
  const std::uint64_t once = uses();
  EXPECT_EQ(once, some_ids(c).size() * chosen * static_cast<std::uint64_t>(layers));
  logits_of(streamed(directory, memory, Backend::kThreads, counts), {.absorbed = true});
  EXPECT_EQ(uses(), 2 * once);
}

}  // namespace
}  // namespace streaming_test
}  // namespace hadal::model
