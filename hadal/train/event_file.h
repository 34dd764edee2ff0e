// TensorBoard's event files, written as its documentation and readers have them, with no code of theirs.
//
// A file is a sequence of TFRecords: u64 size, u32 masked CRC-32C of these 8 bytes, the message, u32 masked CRC-32C of
// the message, all little-endian. A message is a protobuf Event. The first one has the file's version, the second is a
// SessionLog.START at the step that is to come: on it readers drop what they have of that step and later ones. Every
// file has one, as some readers take the first START that they see for the beginning of the run and drop nothing.
//
// TensorBoard's fast reader does not look at START: it drops later points of a tag only when the tag comes again. So at
// a resume later events are cut out of the older files, too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hadal/train/append_file.h"
#include "hadal/train/run_log.h"

namespace hadal::train {

std::uint32_t crc32c(std::string_view bytes);  // Castagnoli
std::uint32_t masked_crc32c(std::string_view bytes);
std::string tf_record(std::string_view message);

using Scalars = std::vector<std::pair<std::string, double>>;  // tag, value; readers get float32

// Messages of type Event, at a time in seconds since 1970.
std::string version_event(double time);
std::string start_event(double time, Index step);
std::string scalar_event(double time, Index step, const Scalars& scalars);
std::string text_event(double time, Index step, std::string_view tag, std::string_view markdown);

// The tags of a record.
Scalars scalars_of(const StepRecord& record);
Scalars scalars_of(const ValidationRecord& record);
// Verbatim, as Markdown.
std::string markdown_of(const SampleRecord& record);

class EventFile {
 public:
  // A new file in `directory`, named so that readers, who go by names, come to it last.
  EventFile(const std::filesystem::path& directory, Index resume_step);
  void write(Index step, const Scalars& scalars);
  void write_text(Index step, std::string_view tag, std::string_view markdown);
  void sync() { file_.sync(); }

 private:
  AppendFile file_;
};

// Leaves the events up to `last_step` in the event files of the directory, and takes away files that have no others.
void cut_events(const std::filesystem::path& directory, Index last_step);

}  // namespace hadal::train
