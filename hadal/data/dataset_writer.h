// Makes a data set's directory: whole under its name, or not there at all.
#pragma once

#include <memory>

#include "hadal/data/dataset.h"
#include "hadal/data/shard_writer.h"
#include "hadal/io/file_lock.h"

namespace hadal::data {

class DatasetWriter {
 public:
  // Works in DIRECTORY.partial, of which what a killed run left is removed. Throws Error if the directory exists,
  // unless it is empty or a data set that may be replaced; or if another run works on it. `info` has all but the
  // sources.
  DatasetWriter(std::filesystem::path directory, DatasetInfo info, std::uint64_t shard_bytes, bool overwrite);
  ~DatasetWriter();  // what was not finished is removed
  DatasetWriter(const DatasetWriter&) = delete;
  DatasetWriter& operator=(const DatasetWriter&) = delete;

  const std::filesystem::path& working() const { return working_; }
  DatasetInfo& info() { return info_; }
  // Documents that follow are of this source; counts that are not of a split are the caller's to keep in it.
  SourceInfo& begin_source(const std::string& name);
  void add(Split split, std::span<const TokenId> document, std::uint64_t text_bytes);
  void end_source();
  // dataset.json, then the rename.
  DatasetInfo finish();

 private:
  void lock();
  void close(Split split);

  std::filesystem::path directory_, working_;
  std::uint64_t shard_bytes_;
  bool overwrite_;
  DatasetInfo info_;
  std::unique_ptr<ShardWriter> open_[2];  // of each split
  io::FileLock lock_;
  bool owned_ = false;
};

}  // namespace hadal::data
