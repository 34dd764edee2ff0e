// The checkpoints of a run: RUN/checkpoints/step-N, each a model directory in F32 that also has the optimiser's state
// (optimizer.safetensors, ema.safetensors), where the run stood (trainer.json) and, written last, the SHA-256 of every
// file (manifest.json). A directory under this name is whole; one that is being written has another name.
#pragma once

#include <atomic>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "hadal/train/model_files.h"
#include "hadal/train/run_state.h"

namespace hadal::train {

struct NamedTensor {
  std::string name;
  TensorRef tensor;
};
// By the file that they are in.
using CheckpointTensors = std::map<std::string, std::vector<NamedTensor>>;

struct SavedRun {
  std::filesystem::path path;
  RunState state;
  io::Json config;  // to_json of the run's configuration
  io::Json model;   // config.json
};

class RunCheckpoints {
 public:
  struct Options {
    Index keep_last = 2;   // the newest ones; 0: all
    Index keep_every = 0;  // and those whose step is a multiple
  };
  RunCheckpoints(std::filesystem::path run_directory, const Options& options);
  ~RunCheckpoints();  // waits for what is being written
  RunCheckpoints(const RunCheckpoints&) = delete;
  RunCheckpoints& operator=(const RunCheckpoints&) = delete;

  // The newest one whose files all have the bytes that its manifest says; `damaged` is told a sentence about each newer
  // one.
  bool any() const;  // whole or damaged
  std::optional<SavedRun> newest(const std::function<void(const std::string&)>& damaged) const;
  // Into tensors of the same names, dtypes and shapes; throws Error for others.
  static void read(const std::filesystem::path& checkpoint, const CheckpointTensors& tensors);

  // Copies everything and writes it in the background, when what was begun before is written. Throws Error if that
  // could not be.
  void begin(Context& ctx, const CheckpointTensors& tensors, const RunState& state,
             std::map<std::string, std::string> texts);
  // Throws Error if what was being written has failed; `wait`: when it is over.
  void check(bool wait);
  // The last one that is whole; 0: none of this process.
  Index written() const { return written_; }
  std::uint64_t copy_bytes() const;

 private:
  struct Copy {
    CheckpointTensors tensors;
    std::vector<Tensor> owned;
    Index step = 0;
    std::map<std::string, std::string> texts;
  };

  std::filesystem::path path_of(Index step) const;
  void copy(Context& ctx, const CheckpointTensors& tensors);
  void write();
  void remove_old() const;

  std::filesystem::path directory_;
  Options options_;
  Copy copy_;
  std::thread writer_;
  std::atomic<bool> over_{true};
  std::exception_ptr error_;
  Index written_ = 0;
};

}  // namespace hadal::train
