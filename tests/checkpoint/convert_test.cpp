// init, convert, inspect and verify on real directories.
#include "hadal/checkpoint/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "hadal/checkpoint/init.h"
#include "hadal/checkpoint/inspect.h"
#include "hadal/checkpoint/verify.h"
#include "hadal/core/error.h"
#include "hadal/core/number_formats.h"
#include "hadal/io/json.h"
#include "hadal/stream/loader.h"
#include "hadal/weights/stored_param.h"
#include "tests/support/checkpoints.h"

namespace hadal::checkpoint {
namespace convert_test {
namespace {

using test::TemporaryDirectory;
using test::tensors;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::filesystem::path kMini = HADAL_SOURCE_DIR "/models/mini";
const std::filesystem::path kModels = HADAL_TEST_DATA "/golden/models";

std::map<std::string, std::string> contents(const std::filesystem::path& directory) {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    out[entry.path().filename().string()] = io::read_text_file(entry.path());
  return out;
}

std::vector<std::string> findings(const std::filesystem::path& directory) {
  Context ctx(2);
  std::vector<std::string> sentences;
  for (const Finding& f : verify_weights(ctx, directory, false, {}).findings) sentences.push_back(f.text);
  return sentences;
}

void convert(const std::filesystem::path& from, const std::filesystem::path& to, Target target, bool ue8m0 = false,
             std::uint64_t shard = 0, int threads = 2) {
  Context ctx(threads);
  convert_model(ctx, from, to, {.storage = {.target = target, .ue8m0 = ue8m0}, .shard_bytes = shard}, {});
}

TEST(Convert, Bf16ToF32AndBackGivesTheSameBytes) {
  const TemporaryDirectory dir;
  convert(kMini, dir.path() / "f32", Target::kF32);
  convert(dir.path() / "f32", dir.path() / "bf16", Target::kBf16);
  EXPECT_EQ(tensors(dir.path() / "bf16"), tensors(kMini));
  EXPECT_EQ(io::read_text_file(dir.path() / "bf16/tokenizer.json"), io::read_text_file(kMini / "tokenizer.json"));
}

TEST(Convert, Rule29_Fp8BecomesTheProductRoundedOnce) {
  const TemporaryDirectory dir;
  convert(kModels / "v3-tiny-fp8", dir.path() / "bf16", Target::kBf16);
  const io::CheckpointFiles from(kModels / "v3-tiny-fp8"), to(dir.path() / "bf16");
  int checked = 0;
  for (const std::string& name : from.names()) {
    if (from.info(name)->dtype != DType::kF8E4M3) continue;
    const auto codes = from.find(name).view<e4m3, 2>();
    const auto scale = from.find(weights::block_scale_name(name)).view<float, 2>();
    const auto got = to.find(name).view<bf16, 2>();
    EXPECT_FALSE(to.contains(weights::block_scale_name(name)));
    for (Index r = 0; r < codes.shape[0]; ++r)
      for (Index c = 0; c < codes.shape[1]; ++c, ++checked)
        ASSERT_EQ(got(r, c).bits, float_to_bf16(e4m3_to_float(codes(r, c)) * scale(r / 128, c / 128)).bits);
  }
  EXPECT_GT(checked, 1000000);
  EXPECT_FALSE(io::read_json_file(dir.path() / "bf16/config.json").contains("quantization_config"));
  EXPECT_THAT(findings(dir.path() / "bf16"), IsEmpty());
}

TEST(Convert, Rule36_OnlyTheLinearsOfAttentionAndExpertsBecomeFp8) {
  const TemporaryDirectory dir;
  convert(kMini, dir.path() / "fp8", Target::kFp8, false, 3'000'000);
  const io::CheckpointFiles files(dir.path() / "fp8");
  EXPECT_GT(files.shards().size(), 2u);
  for (const char* kept :
       {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight", "model.layers.1.mlp.gate.weight",
        "model.layers.4.eh_proj.weight", "model.layers.4.shared_head.head.weight"})
    EXPECT_EQ(files.info(kept)->dtype, DType::kBF16) << kept;
  EXPECT_EQ(files.info("model.layers.1.mlp.gate.e_score_correction_bias")->dtype, DType::kF32);
  for (const char* cast :
       {"model.layers.0.self_attn.kv_b_proj.weight", "model.layers.0.mlp.up_proj.weight",
        "model.layers.4.mlp.experts.3.down_proj.weight", "model.layers.1.mlp.shared_experts.gate_proj.weight"}) {
    EXPECT_EQ(files.info(cast)->dtype, DType::kF8E4M3) << cast;
    EXPECT_EQ(files.info(weights::block_scale_name(cast))->dtype, DType::kF32) << cast;
  }
  EXPECT_THAT(findings(dir.path() / "fp8"), IsEmpty());
  // FP8 to FP8 leaves codes and scales as they are.
  convert(dir.path() / "fp8", dir.path() / "again", Target::kFp8);
  EXPECT_EQ(tensors(dir.path() / "again"), tensors(dir.path() / "fp8"));
}

TEST(Convert, Rule25_TheRoutingBiasStaysF32) {
  const TemporaryDirectory dir;
  for (const auto& [target, name] : {std::pair{Target::kBf16, "bf16"}, {Target::kFp8, "fp8"}, {Target::kF32, "f32"}}) {
    convert(kMini, dir.path() / name, target);
    const io::CheckpointFiles from(kMini), to(dir.path() / name);
    const std::string bias = "model.layers.1.mlp.gate.e_score_correction_bias";
    ASSERT_EQ(to.info(bias)->dtype, DType::kF32) << name;
    EXPECT_EQ(std::memcmp(to.find(bias).raw(), from.find(bias).raw(), to.info(bias)->end - to.info(bias)->begin), 0);
  }
}

TEST(Convert, Rule35_PowerOfTwoScalesComeOnRequestAndAreDeclared) {
  const TemporaryDirectory dir;
  convert(kModels / "v3-tiny-fp8", dir.path() / "u", Target::kFp8, true);
  EXPECT_EQ(io::read_json_file(dir.path() / "u/config.json")["quantization_config"]["scale_fmt"], "ue8m0");
  EXPECT_THAT(findings(dir.path() / "u"), IsEmpty());
  EXPECT_NO_THROW(stream::load_model(dir.path() / "u", {.mtp = true}));
}

TEST(Convert, BytesDoNotDependOnThreads) {
  const TemporaryDirectory dir;
  convert(kMini, dir.path() / "one", Target::kFp8, false, 0, 1);
  convert(kMini, dir.path() / "three", Target::kFp8, false, 0, 3);
  EXPECT_EQ(contents(dir.path() / "one"), contents(dir.path() / "three"));
}

TEST(Convert, AKilledRunGoesOnAndEndsTheSame) {
  const TemporaryDirectory dir;
  convert(kMini, dir.path() / "whole", Target::kFp8, false, 1'000'000);
  for (const std::uint64_t stop : {1u, 2'000'000u, 5'000'000u}) {
    const pid_t child = ::fork();
    if (child == 0) {
      Context ctx(1);
      convert_model(ctx, kMini, dir.path() / "killed", {.storage = {.target = Target::kFp8}, .shard_bytes = 1'000'000},
                    [&](std::uint64_t done, std::uint64_t) {
                      if (done >= stop) ::kill(::getpid(), SIGKILL);
                      return true;
                    });
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_FALSE(std::filesystem::exists(dir.path() / "killed")) << "complete or absent";
    EXPECT_TRUE(std::filesystem::exists(dir.path() / "killed.partial"));
  }
  convert(kMini, dir.path() / "killed", Target::kFp8, false, 1'000'000);
  EXPECT_EQ(contents(dir.path() / "killed"), contents(dir.path() / "whole"));
}

TEST(Convert, BadPlacesAreSentences) {
  const TemporaryDirectory dir;
  const auto error = [](const auto& run) {
    try {
      run();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(error([&] { convert(kMini, kMini, Target::kF32); }), HasSubstr("is source and destination"));
  EXPECT_THAT(error([&] { convert(kMini, kMini / "x", Target::kF32); }), HasSubstr("lies inside the source"));
  convert(kMini, dir.path() / "a", Target::kF32);
  EXPECT_THAT(error([&] { convert(kMini, dir.path() / "a", Target::kF32); }), HasSubstr("exists already"));
  std::filesystem::create_directories(dir.path() / "b.partial");
  io::write_text_file_atomically(dir.path() / "b.partial/.hadal-journal", "something else");
  EXPECT_THAT(error([&] { convert(kMini, dir.path() / "b", Target::kF32); }),
              HasSubstr("another source or other options"));
  // Killed before it had a journal, and when all was done.
  std::filesystem::create_directories(dir.path() / "c.partial");
  std::ofstream(dir.path() / "c.partial/.hadal-journal.tmp4711") << "half";
  convert(kMini, dir.path() / "c", Target::kF32);
  EXPECT_EQ(contents(dir.path() / "c"), contents(dir.path() / "a"));
  std::filesystem::create_directories(dir.path() / "d.partial");
  std::ofstream(dir.path() / "d.partial/mine.txt") << "x";
  EXPECT_THAT(error([&] { convert(kMini, dir.path() / "d", Target::kF32); }),
              HasSubstr("is not the work of an interrupted run"));
  EXPECT_EQ(parse_size("5GB"), 5'000'000'000u);
  EXPECT_EQ(parse_size("2GiB"), std::uint64_t{2} << 30);
  EXPECT_THAT(error([] { parse_size("many"); }), HasSubstr("not understood"));
}

TEST(Init, TheSameSeedGivesTheSameBytesForAnyThreads) {
  const TemporaryDirectory dir;
  const auto make = [&](const char* name, int threads, std::uint64_t seed, Target target) {
    Context ctx(threads);
    init_model(ctx, kMini / "config.json", dir.path() / name,
               {.seed = seed, .storage = {.target = target}, .shard_bytes = 4'000'000}, {});
    return contents(dir.path() / name);
  };
  const auto a = make("a", 1, 7, Target::kFp8);
  EXPECT_EQ(a, make("b", 3, 7, Target::kFp8));
  EXPECT_NE(a, make("c", 2, 8, Target::kFp8));
  EXPECT_THAT(findings(dir.path() / "a"), IsEmpty());
  EXPECT_NO_THROW(stream::load_model(dir.path() / "a", {.mtp = true}));
}

TEST(Init, WeightsHaveTheWantedMoments) {
  const TemporaryDirectory dir;
  Context ctx(2);
  init_model(ctx, kMini / "config.json", dir.path() / "m", {.seed = 1, .storage = {.target = Target::kF32}, .std = 0.5},
             {});
  const io::CheckpointFiles files(dir.path() / "m");
  const ConstTensorRef t = files.find("model.embed_tokens.weight");
  double sum = 0, squares = 0, fourth = 0;
  const auto n = static_cast<double>(t.num_elements());
  for (Index i = 0; i < t.num_elements(); ++i) {
    const double v = t.data<float>()[i] / 0.5;
    sum += v, squares += v * v, fourth += v * v * v * v;
  }
  EXPECT_NEAR(sum / n, 0, 0.01);
  EXPECT_NEAR(squares / n, 1, 0.01);
  EXPECT_NEAR(fourth / n, 3, 0.05);
  EXPECT_EQ(files.find("model.norm.weight").data<float>()[5], 1.0f);
  EXPECT_EQ(files.find("model.layers.1.mlp.gate.e_score_correction_bias").data<float>()[5], 0.0f);
}

TEST(Inspect, CountsThePublishedParameters) {
  const Inspection v3 = inspect_model(HADAL_TEST_DATA "/shapes/deepseek-v3-671b.json");
  EXPECT_NEAR(static_cast<double>(v3.parameters) / 1e9, 671.0, 0.1);
  EXPECT_NEAR(static_cast<double>(v3.active_parameters) / 1e9, 36.6, 0.1);
  const Inspection lite = inspect_model(HADAL_TEST_DATA "/shapes/deepseek-v2-lite.json");
  EXPECT_NEAR(static_cast<double>(lite.parameters) / 1e9, 15.7, 0.1);
  EXPECT_EQ(inspect_model(kMini).bytes_by_dtype.at("F32"), 256u);
}

// A copy of a small model that a test may damage.
class Damaged : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::copy(kModels / "v3-tiny-fp8", dir.path() / "m"); }
  void write_at(const std::string& tensor, Index offset, std::string_view bytes) {
    const io::CheckpointFiles files(dir.path() / "m");
    const auto* info = files.info(tensor);
    std::filesystem::permissions(files.shard_of(tensor)->path(), std::filesystem::perms::owner_write,
                                 std::filesystem::perm_options::add);
    std::fstream file(files.shard_of(tensor)->path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(info->begin) + offset);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void edit_config(const std::function<void(io::Json&)>& edit) {
    std::filesystem::permissions(dir.path() / "m/config.json", std::filesystem::perms::owner_write,
                                 std::filesystem::perm_options::add);
    io::Json json = io::read_json_file(dir.path() / "m/config.json");
    edit(json);
    std::ofstream(dir.path() / "m/config.json") << json;
  }
  TemporaryDirectory dir;
};

TEST_F(Damaged, NothingIsWrongAtFirst) {
  EXPECT_THAT(findings(dir.path() / "m"), IsEmpty());
}

TEST_F(Damaged, Rule32_NanCodesAreFound) {
  write_at("model.layers.0.self_attn.o_proj.weight", 77, "\x7F");
  EXPECT_THAT(findings(dir.path() / "m"), Contains(HasSubstr("o_proj.weight: 1 of")));
}

TEST_F(Damaged, ScalesThatAreNotPositiveAreFound) {
  write_at("model.layers.0.self_attn.o_proj.weight_scale_inv", 0, std::string(4, '\0'));
  EXPECT_THAT(findings(dir.path() / "m"), Contains(HasSubstr("1 scales are not positive")));
}

TEST_F(Damaged, ScalesThatContradictScaleFmtAreFound) {
  edit_config([](io::Json& c) { c["quantization_config"]["scale_fmt"] = "ue8m0"; });
  EXPECT_THAT(findings(dir.path() / "m"), Contains(HasSubstr("not powers of two")));
}

TEST_F(Damaged, WrongShapesAndMissingTensorsAreAllNamed) {
  edit_config([](io::Json& c) { c["n_routed_experts"] = 20, c["v_head_dim"] = 16; });
  const auto all = findings(dir.path() / "m");
  EXPECT_THAT(all, Contains(HasSubstr("o_proj.weight: has shape")));
  EXPECT_THAT(all, Contains(HasSubstr("experts.19.up_proj.weight: is missing")));
  try {
    stream::load_model(dir.path() / "m");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("more; `hadal verify` lists all"));
  }
}

TEST_F(Damaged, TensorsWithoutAPlaceAreFound) {
  edit_config([](io::Json& c) { c["num_nextn_predict_layers"] = 0; });
  EXPECT_THAT(findings(dir.path() / "m"), Contains(HasSubstr("has no place in the config")));
}

TEST_F(Damaged, ATruncatedShardIsOneSentence) {
  const auto shard = dir.path() / "m/model-00002-of-000002.safetensors";
  std::filesystem::permissions(shard, std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
  std::filesystem::resize_file(shard, 1'000'000);
  EXPECT_THAT(findings(dir.path() / "m"), Contains(HasSubstr("model-00002-of-000002.safetensors: ")));
}

TEST_F(Damaged, Rule39_MtpCopiesThatDifferAreFound) {
  write_at("model.layers.3.embed_tokens.weight", 10, std::string(2, '\x11'));
  EXPECT_THAT(findings(dir.path() / "m"), Contains(HasSubstr("differs from model.embed_tokens.weight")));
}

TEST_F(Damaged, ABrokenConfigDoesNotKeepTheValuesFromBeingRead) {
  edit_config([](io::Json& c) { c["hidden_size"] = -1; });
  write_at("model.layers.0.self_attn.o_proj.weight", 77, "\x7F");
  const auto all = findings(dir.path() / "m");
  EXPECT_THAT(all, Contains(HasSubstr("hidden_size is -1")));
  EXPECT_THAT(all, Contains(HasSubstr("o_proj.weight: 1 of")));
}

}  // namespace
}  // namespace convert_test
}  // namespace hadal::checkpoint
