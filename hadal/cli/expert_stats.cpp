#include "hadal/cli/expert_stats.h"

#include <fmt/format.h>

#include "hadal/cli/standard_error.h"

namespace hadal::cli {
namespace {

double percent(std::uint64_t part, std::uint64_t all) {
  return all ? 100.0 * static_cast<double>(part) / static_cast<double>(all) : 0;
}
double giga(std::uint64_t bytes) {
  return static_cast<double>(bytes) * 1e-9;
}

}  // namespace

std::string stats_text(const stream::ExpertStore* store) {
  if (!store) return "experts: all are in memory";
  const stream::ExpertStats s = store->stats();
  return fmt::format(
      "experts: {} hits and {} misses ({:.1f} % from memory), {:.3f} GB read, {:.2f} s of waiting for the disk; {} "
      "read "
      "ahead, {} of them used ({:.1f} %), {} came too late; room for {} of {} in {:.3f} GB beside {:.3f} GB of other "
      "weights; {}, {}",
      s.hits, s.misses, percent(s.hits, s.hits + s.misses), giga(s.bytes_read), s.stall_seconds, s.prefetched,
      s.prefetch_used, percent(s.prefetch_used, s.prefetched), s.late, s.slots, s.experts,
      giga(static_cast<std::uint64_t>(s.slots) * s.expert_bytes), giga(s.resident_bytes),
      s.io_uring ? "io_uring" : "pread", s.direct ? "O_DIRECT" : "page cache");
}

nlohmann::ordered_json stats_json(const stream::ExpertStore* store) {
  if (!store) return {{"in_memory", true}};
  const stream::ExpertStats s = store->stats();
  return {{"in_memory", false},
          {"hits", s.hits},
          {"misses", s.misses},
          {"late", s.late},
          {"prefetched", s.prefetched},
          {"prefetch_used", s.prefetch_used},
          {"bytes_read", s.bytes_read},
          {"stall_seconds", s.stall_seconds},
          {"memory", s.memory},
          {"resident_bytes", s.resident_bytes},
          {"expert_bytes", s.expert_bytes},
          {"slots", s.slots},
          {"experts", s.experts},
          {"io_uring", s.io_uring},
          {"direct", s.direct}};
}

StatsAtEnd::~StatsAtEnd() {
  if (!wanted_) return;
  to_stderr(fmt::format("hadal: {}\n", stats_text(store_)));
  if (more_) to_stderr(fmt::format("hadal: {}\n", more_()));
}

}  // namespace hadal::cli
