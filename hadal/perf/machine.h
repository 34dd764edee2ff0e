// The machine alone: reading, arithmetic, disk.
#pragma once

#include <filesystem>
#include <vector>

#include "hadal/perf/model_bench.h"

namespace hadal::perf {

// A row for every loop that the instruction sets up to `most` have and every number of threads.
std::vector<Row> measure_machine(const std::vector<int>& threads, Isa most, Index runs, const Poll& poll);

// Reads past the page cache (O_DIRECT), in requests of 4 MiB by one and by more threads. A `file` is read whole, up to
// 4 GiB; without one a file of 1 GiB is written in the temporary directory first and removed afterwards. Throws Error
// if the file system knows no O_DIRECT.
std::vector<Row> measure_disk(const std::filesystem::path& file, const std::vector<int>& threads, Index runs,
                              const Poll& poll);

}  // namespace hadal::perf
