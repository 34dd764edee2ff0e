// What `hadal data` prints about data sets and their files.
#pragma once

#include <filesystem>
#include <string>

#include "hadal/data/dataset.h"

namespace hadal::cli {

std::string data_table(const data::DatasetInfo& info);

// Of one file: a shard, or an index of Megatron's. Throws Error for others.
std::string data_file_report(const std::filesystem::path& path, bool verify, bool json);

// Reads all shards; throws Error for the first that is damaged.
void verify_dataset(const data::Dataset& dataset);

}  // namespace hadal::cli
