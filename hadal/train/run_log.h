// What a run says of itself, in its directory: log.jsonl (one JSON object a line; the keys are the names of the fields
// below, see docs/training-log.md), TensorBoard's event files, and report.html, which is made of log.jsonl alone.
//
// A record is on its way to the disk when write() returns: kill -9 loses at most the last line. Records of step N
// belong in front of the checkpoint of step N, with flush() between: whoever resumes from it finds them, and cuts what
// is behind.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/core/view.h"

namespace hadal::train {

struct LayerLoad {
  Index layer = 0;                     // as the checkpoint numbers it; those of MTP come behind the others
  std::vector<Index> counts;           // tokens that each expert was chosen for, of the global batch
  double max_vio = 0;                  // largest count / mean count - 1
  double bias_low = 0, bias_high = 0;  // of the routing bias after the step
  Index dead = 0;                      // experts that no token chose
};

struct StepRecord {
  Index step = 0;            // 1 is the first
  std::uint64_t tokens = 0;  // consumed since the beginning
  double loss = 0;           // what was minimised: main + lambda / D * sum of mtp + alpha * balance
  double main = 0;           // nats per token
  std::vector<double> mtp;   // nats per token of each depth
  double balance = 0;        // before alpha
  double grad_norm = 0;      // before clipping
  double learning_rate = 0;
  double tokens_per_second = 0, fma_share = 0;  // share of the machine's multiply-adds, 0 to 1
  double seconds = 0;                           // that the step took
  std::vector<LayerLoad> load;                  // none: not logged at this step
  bool skipped = false;                         // no weight was changed
};

struct ValidationRecord {
  Index step = 0;
  std::uint64_t tokens = 0;
  double nats_per_token = 0, bits_per_byte = 0;
  std::vector<LayerLoad> load;  // over all that was validated; of the main model's layers
};

struct SampleRecord {
  Index step = 0;
  std::uint64_t tokens = 0;
  std::string prompt, text;
};

struct NoteRecord {
  Index step = 0;
  std::string text;
};

class LogFile;
class EventFile;

class RunLog {
 public:
  // `resume_step`: records of later steps, and a last line that is torn, are cut away, so that no step is there twice;
  // 0 is a new run, and nothing is kept. Readers of TensorBoard's files that have seen more are told by
  // SessionLog.START. Throws Error if the directory cannot be written.
  RunLog(const std::filesystem::path& run_directory, Index resume_step);
  ~RunLog();

  // Throw Error when the disk is full; log.jsonl then ends with the record before.
  void write(const StepRecord& record);
  void write(const ValidationRecord& record);
  void write(const SampleRecord& record);
  void note(Index step, std::string_view sentence);
  // To the disk itself, for what must survive a power failure.
  void flush();

 private:
  std::unique_ptr<LogFile> lines_;
  std::unique_ptr<EventFile> events_;
  Index sample_step_ = -1, samples_ = 0;  // of this step so far
};

// RUN/report.html from RUN/log.jsonl (and RUN/config.toml, if it is there): one file that needs no other. Throws Error if
// there is no log or the report cannot be written.
void write_report(const std::filesystem::path& run_directory);

}  // namespace hadal::train
