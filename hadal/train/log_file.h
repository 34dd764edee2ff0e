// log.jsonl: every record a line, an object whose first keys are "kind" (step, validation, sample, note) and "step".
// JSON has no NaN and no infinity: such numbers are null, and NaN when they are read back.
#pragma once

#include <deque>
#include <optional>
#include <variant>

#include "hadal/train/append_file.h"
#include "hadal/train/run_log.h"

namespace hadal::train {

using Record = std::variant<StepRecord, ValidationRecord, SampleRecord, NoteRecord>;

// With the line's end. Text that is not UTF-8 gets U+FFFD for each fault.
std::string to_line(const Record& record);
// Nothing if the line is no record: torn, of a kind of a later version, or not ours.
std::optional<Record> parse_line(std::string_view line);

class LogFile {
 public:
  LogFile(const std::filesystem::path& path, Index resume_step);
  void write(const Record& record) { file_.write(to_line(record)); }
  void sync() { file_.sync(); }

 private:
  AppendFile file_;
};

// The lines up to `last_step`, and no others, by way of a temporary name and a rename. No file is an empty one.
void cut_log(const std::filesystem::path& path, Index last_step);

// A whole log, as a report needs it: the counts of experts are kept of the last steps only.
struct RunRecords {
  static constexpr std::size_t kLoadsKept = 100;
  std::vector<StepRecord> steps;  // load without counts
  std::deque<std::vector<LayerLoad>> last_loads;
  std::vector<ValidationRecord> validation;  // load without counts
  std::vector<SampleRecord> samples;
  std::vector<NoteRecord> notes;
  std::size_t unread = 0;  // lines that are no records
};
RunRecords read_log(const std::filesystem::path& path);

}  // namespace hadal::train
