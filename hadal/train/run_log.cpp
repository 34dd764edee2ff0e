#include "hadal/train/run_log.h"

#include <fmt/format.h>

#include "hadal/core/error.h"
#include "hadal/tokenizer/utf8.h"
#include "hadal/train/event_file.h"
#include "hadal/train/log_file.h"

namespace hadal::train {
namespace {

std::filesystem::path made_directory(const std::filesystem::path& directory) {
  std::error_code status;
  std::filesystem::create_directories(directory, status);
  HADAL_CHECK(!status, "{}: cannot be made: {}", directory.string(), status.message());
  return directory;
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& run_directory, Index resume_step)
    : lines_(std::make_unique<LogFile>(made_directory(run_directory) / "log.jsonl", resume_step)),
      events_(std::make_unique<EventFile>(run_directory, resume_step)) {}

RunLog::~RunLog() = default;

void RunLog::write(const StepRecord& record) {
  lines_->write(record);
  events_->write(record.step, scalars_of(record));
}

void RunLog::write(const ValidationRecord& record) {
  lines_->write(record);
  events_->write(record.step, scalars_of(record));
}

void RunLog::write(const SampleRecord& record) {
  lines_->write(record);
  samples_ = record.step == sample_step_ ? samples_ + 1 : 0;
  sample_step_ = record.step;
  // A tag has one text a step: each prompt has a tag of its own.
  events_->write_text(record.step, fmt::format("sample/{}", samples_),
                      tokenizer::replace_invalid_utf8(markdown_of(record)));
}

void RunLog::note(Index step, std::string_view sentence) {
  lines_->write(NoteRecord{step, std::string(sentence)});
}

void RunLog::flush() {
  lines_->sync();
  events_->sync();
}

}  // namespace hadal::train
