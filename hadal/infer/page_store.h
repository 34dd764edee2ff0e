// Records of cache pages in files, written and read by a thread of its own, so that no step waits for a disk.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "hadal/infer/page_record.h"
#include "hadal/io/record_files.h"

namespace hadal::infer {

struct PageStoreStats {
  std::uint64_t saved = 0, loaded = 0, failures = 0;  // pages; failures: records that could not be written
  std::uint64_t bytes = 0, pages = 0;                 // that there are now
};

class PageStore {
 public:
  // See io::RecordFiles.
  PageStore(const std::filesystem::path& directory, std::uint64_t most_bytes, const io::Digest& owner);
  // What waits to be written is written.
  ~PageStore();

  // Whether there is memory for another record that waits to be written.
  bool has_room() const;
  bool contains(const PageName& name) const;  // or it waits to be written
  void save(const PageName& name, std::vector<std::byte> record);

  // The pages with these names that are there, in their order, up to the first one that is not, a few at a time.
  class Load;
  // nullptr if there is not even the first one.
  std::shared_ptr<Load> load(std::vector<PageName> names);
  struct Next {
    std::optional<std::vector<std::byte>> record = {};
    bool ended = false;  // without a record: it will come, or, with this, no more will
  };
  Next next(Load& load);
  // Until something has been read, or a moment.
  void wait_for_load();

  PageStoreStats stats() const;

 private:
  struct Waiting {
    PageName name;
    std::vector<std::byte> record;
  };

  void run();
  std::shared_ptr<Load> next_load();
  void read_for(Load& load, std::unique_lock<std::mutex>& lock);
  void write_next(std::unique_lock<std::mutex>& lock);

  io::RecordFiles files_;
  mutable std::mutex mutex_;
  std::condition_variable work_, read_;
  std::deque<Waiting> waiting_;
  std::set<PageName> waiting_names_;
  std::size_t waiting_bytes_ = 0;
  std::list<std::weak_ptr<Load>> loads_;  // in turns; who has lost interest has let go
  std::uint64_t saved_ = 0, loaded_ = 0, failures_ = 0;
  std::uint64_t reads_ = 0, seen_reads_ = 0;
  bool failing_ = false, stop_ = false;
  std::thread thread_;
};

}  // namespace hadal::infer
