#include "hadal/train/run_checkpoints.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>

#include "hadal/core/error.h"

namespace hadal::train {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

class RunCheckpointsTest : public testing::Test {
 protected:
  RunCheckpointsTest() : run_(fs::temp_directory_path() / fmt::format("hadal-checkpoints-{}", ::getpid())) {
    fs::remove_all(run_);
    values_ = Tensor::zeros(DType::kF32, {3, 2});
    moments_ = Tensor::zeros(DType::kBF16, {5});
  }
  ~RunCheckpointsTest() override { fs::remove_all(run_); }

  CheckpointTensors tensors() {
    return {{"model.safetensors", {{"w", values_}}}, {"optimizer.safetensors", {{"first.w", moments_}}}};
  }
  void set(float value) { std::fill_n(values_->data<float>(), 6, value); }
  void save(RunCheckpoints& checkpoints, Index step) {
    RunState state;
    state.step = step;
    state.tokens = static_cast<std::uint64_t>(step) * 10;
    state.losses = {0.1, 1.0 / 3};
    const io::Json trainer = {{"state", to_json(state)}, {"config", {{"seed", 3}}}};
    checkpoints.begin(ctx_, tensors(), state, {{"trainer.json", trainer.dump()}, {"config.json", "{\"a\": 1}"}});
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(run_ / "checkpoints")) out.push_back(entry.path().filename());
    std::sort(out.begin(), out.end());
    return out;
  }
  std::optional<SavedRun> newest(const RunCheckpoints& checkpoints) {
    damaged_.clear();
    return checkpoints.newest([&](const std::string& sentence) { damaged_.push_back(sentence); });
  }
  void flip(const fs::path& file, std::streamoff at) {
    std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
    f.seekg(at, at < 0 ? std::ios::end : std::ios::beg);
    const auto place = f.tellg();
    const char c = static_cast<char>(f.get());
    f.seekp(place);
    f.put(static_cast<char>(c ^ 1));
  }

  fs::path run_;
  Context ctx_{2};
  Tensor values_, moments_;
  std::vector<std::string> damaged_;
};

TEST_F(RunCheckpointsTest, GivesBackWhatWasThereWhenItBegan) {
  RunCheckpoints checkpoints(run_, {});
  EXPECT_FALSE(newest(checkpoints));
  set(1);
  save(checkpoints, 7);
  set(2);  // while it is being written
  checkpoints.check(true);
  EXPECT_EQ(checkpoints.written(), 7);
  const auto saved = newest(checkpoints);
  ASSERT_TRUE(saved);
  EXPECT_THAT(damaged_, IsEmpty());
  EXPECT_EQ(saved->state.step, 7);
  EXPECT_EQ(saved->state.tokens, 70u);
  EXPECT_THAT(saved->state.losses, ElementsAre(0.1, 1.0 / 3));
  EXPECT_EQ(saved->config["seed"], 3);
  EXPECT_EQ(saved->model["a"], 1);
  RunCheckpoints::read(saved->path, tensors());
  EXPECT_EQ(values_->data<float>()[5], 1);
}

TEST_F(RunCheckpointsTest, EveryByteOfEveryFileCounts) {
  RunCheckpoints checkpoints(run_, {.keep_last = 0});
  save(checkpoints, 1);
  save(checkpoints, 2);
  checkpoints.check(true);
  const fs::path newer = run_ / "checkpoints/step-2";
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(newer)) files.push_back(entry.path());
  EXPECT_EQ(files.size(), 5u);
  for (const fs::path& file : files)
    for (const std::streamoff at : {std::streamoff{3}, std::streamoff{-3}}) {
      flip(file, at);
      const auto saved = newest(checkpoints);
      ASSERT_TRUE(saved) << file;
      EXPECT_EQ(saved->state.step, 1) << file << " at " << at;
      EXPECT_THAT(damaged_, ElementsAre(HasSubstr("step-2"))) << file;
      flip(file, at);
    }
  EXPECT_EQ(newest(checkpoints)->state.step, 2);
  for (const fs::path& file : files) {
    const fs::path away = run_ / "away";
    fs::rename(file, away);
    EXPECT_EQ(newest(checkpoints)->state.step, 1) << file;
    fs::rename(away, file);
  }
}

TEST_F(RunCheckpointsTest, WhatWasNotFinishedIsNoCheckpoint) {
  {
    RunCheckpoints checkpoints(run_, {});
    save(checkpoints, 1);
  }
  fs::create_directory(run_ / "checkpoints/step-2.partial");
  RunCheckpoints checkpoints(run_, {});
  EXPECT_THAT(names(), ElementsAre("step-1"));
  EXPECT_EQ(newest(checkpoints)->state.step, 1);
}

TEST_F(RunCheckpointsTest, KeepsTheLastAndEveryManieth) {
  RunCheckpoints checkpoints(run_, {.keep_last = 2, .keep_every = 4});
  for (Index step = 1; step <= 9; ++step) save(checkpoints, step);
  checkpoints.check(true);
  EXPECT_THAT(names(), ElementsAre("step-4", "step-8", "step-9"));
}

// A damaged checkpoint that is newer does not push out the one that was just written.
TEST_F(RunCheckpointsTest, KeepsWhatItWroteBesideADamagedNewerOne) {
  RunCheckpoints checkpoints(run_, {.keep_last = 1});
  save(checkpoints, 9);
  checkpoints.check(true);
  flip(run_ / "checkpoints/step-9/model.safetensors", -1);
  save(checkpoints, 5);
  checkpoints.check(true);
  EXPECT_EQ(newest(checkpoints)->state.step, 5);
}

TEST_F(RunCheckpointsTest, ADamagedOneIsWrittenAgainUnderItsName) {
  RunCheckpoints checkpoints(run_, {});
  set(1);
  save(checkpoints, 3);
  checkpoints.check(true);
  flip(run_ / "checkpoints/step-3/model.safetensors", -1);
  set(2);
  save(checkpoints, 3);
  checkpoints.check(true);
  const auto saved = newest(checkpoints);
  ASSERT_TRUE(saved);
  RunCheckpoints::read(saved->path, tensors());
  EXPECT_EQ(values_->data<float>()[5], 2);
}

TEST_F(RunCheckpointsTest, AManifestHasToListWhatARunNeeds) {
  RunCheckpoints checkpoints(run_, {});
  save(checkpoints, 3);
  checkpoints.check(true);
  const fs::path path = run_ / "checkpoints/step-3/manifest.json";
  const io::Json whole = io::read_json_file(path);
  for (const char* name : {"trainer.json", "model.safetensors", "config.json"}) {
    io::Json part = whole;
    part["files"].erase(name);
    io::write_text_file_atomically(path, part.dump());
    EXPECT_FALSE(newest(checkpoints));
    EXPECT_THAT(damaged_, ElementsAre(HasSubstr(fmt::format("does not list {}", name))));
  }
  io::write_text_file_atomically(path, whole.dump());
  EXPECT_TRUE(newest(checkpoints));
}

TEST_F(RunCheckpointsTest, OtherNamesAreNoCheckpoints) {
  for (const char* name : {"step-5x", "step-", "step", "5", "step-5.old"})
    fs::create_directories(run_ / "checkpoints" / name);
  RunCheckpoints checkpoints(run_, {.keep_last = 1});
  EXPECT_FALSE(newest(checkpoints));
  EXPECT_THAT(damaged_, IsEmpty());
  save(checkpoints, 7);
  checkpoints.check(true);
  EXPECT_THAT(names(), ElementsAre("5", "step", "step-", "step-5.old", "step-5x", "step-7"));
}

TEST_F(RunCheckpointsTest, TensorsOfAnotherModelAreRefused) {
  RunCheckpoints checkpoints(run_, {});
  save(checkpoints, 1);
  checkpoints.check(true);
  const fs::path path = run_ / "checkpoints/step-1";
  const Tensor other = Tensor::zeros(DType::kF32, {2, 3});
  EXPECT_THAT([&] { RunCheckpoints::read(path, {{"model.safetensors", {{"w", other}}}}); },
              ThrowsMessage<Error>(HasSubstr("w is F32 [3, 2], the configuration gives F32 [2, 3]")));
  EXPECT_THAT([&] { RunCheckpoints::read(path, {{"model.safetensors", {{"v", other}}}}); },
              ThrowsMessage<Error>(HasSubstr("has no tensor v")));
  EXPECT_THAT([&] { RunCheckpoints::read(path, {{"model.safetensors", {}}}); },
              ThrowsMessage<Error>(HasSubstr("has 1 tensors, the configuration gives 0")));
}

TEST_F(RunCheckpointsTest, AFullDiskIsSaidOnceAndLeavesNothing) {
  RunCheckpoints checkpoints(run_, {});
  save(checkpoints, 1);
  checkpoints.check(true);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{100, before.rlim_max};
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  save(checkpoints, 2);
  EXPECT_THAT([&] { checkpoints.check(true); }, ThrowsMessage<Error>(HasSubstr("cannot be written: File too large")));
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  checkpoints.check(true);
  EXPECT_EQ(checkpoints.written(), 1);
  EXPECT_THAT(names(), ElementsAre("step-1"));
  save(checkpoints, 3);
  checkpoints.check(true);
  EXPECT_EQ(newest(checkpoints)->state.step, 3);
}

}  // namespace
}  // namespace hadal::train
