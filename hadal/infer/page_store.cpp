#include "hadal/infer/page_store.h"

#include <chrono>
#include <utility>

#include "hadal/core/error.h"
#include "hadal/core/log.h"

namespace hadal::infer {
namespace {

// Records that wait to be written, and those of one load that wait to be taken, hold memory.
constexpr std::size_t kMostWaiting = std::size_t{256} << 20;
constexpr std::size_t kMostRead = 8;

}  // namespace

class PageStore::Load {
 public:
  explicit Load(std::vector<PageName> all) : names(std::move(all)) {}
  std::vector<PageName> names;
  std::size_t read = 0;
  std::deque<std::vector<std::byte>> records;
  bool wants_more() const { return read < names.size() && records.size() < kMostRead; }
};

PageStore::PageStore(const std::filesystem::path& directory, std::uint64_t most_bytes, const io::Digest& owner)
    : files_(directory, most_bytes, owner), thread_([this] { run(); }) {}

PageStore::~PageStore() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  thread_.join();
}

bool PageStore::has_room() const {
  const std::lock_guard lock(mutex_);
  return waiting_bytes_ < kMostWaiting;
}

bool PageStore::contains(const PageName& name) const {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_names_.contains(name)) return true;
  }
  return files_.contains(name);
}

void PageStore::save(const PageName& name, std::vector<std::byte> record) {
  if (contains(name)) return;
  {
    const std::lock_guard lock(mutex_);
    waiting_bytes_ += record.size();
    waiting_names_.insert(name);
    waiting_.push_back({name, std::move(record)});
  }
  work_.notify_one();
}

std::shared_ptr<PageStore::Load> PageStore::load(std::vector<PageName> names) {
  std::size_t there = 0;
  while (there < names.size() && files_.contains(names[there])) ++there;
  if (there == 0) return nullptr;
  names.resize(there);
  auto load = std::make_shared<Load>(std::move(names));
  {
    const std::lock_guard lock(mutex_);
    loads_.push_back(load);
  }
  work_.notify_one();
  return load;
}

PageStore::Next PageStore::next(Load& load) {
  Next next;
  {
    const std::lock_guard lock(mutex_);
    if (load.records.empty()) {
      next.ended = load.read == load.names.size();
      return next;
    }
    next.record = std::move(load.records.front());
    load.records.pop_front();
  }
  work_.notify_one();
  return next;
}

void PageStore::wait_for_load() {
  std::unique_lock lock(mutex_);
  read_.wait_for(lock, std::chrono::milliseconds(20), [this] { return reads_ != seen_reads_; });
  seen_reads_ = reads_;
}

PageStoreStats PageStore::stats() const {
  const std::lock_guard lock(mutex_);
  return {saved_, loaded_, failures_, files_.bytes(), files_.size()};
}

// Loads go first: somebody waits for them.
void PageStore::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (const std::shared_ptr<Load> load = next_load())
      read_for(*load, lock);
    else if (!waiting_.empty())
      write_next(lock);
    else if (stop_)
      return;
    else
      work_.wait(lock);
  }
}

std::shared_ptr<PageStore::Load> PageStore::next_load() {
  for (auto it = loads_.begin(); it != loads_.end();) {
    const auto here = it++;
    const std::shared_ptr<Load> load = here->lock();
    if (!load || load->read == load->names.size()) {
      loads_.erase(here);
    } else if (load->wants_more()) {
      loads_.splice(loads_.end(), loads_, here);
      return load;
    }
  }
  return nullptr;
}

void PageStore::read_for(Load& load, std::unique_lock<std::mutex>& lock) {
  const PageName name = load.names[load.read];
  if (load.read == 0) {
    lock.unlock();
    files_.use(load.names);
    lock.lock();
  }
  lock.unlock();
  std::optional<std::vector<std::byte>> record;
  try {
    record = files_.read(name);
  } catch (const std::exception& e) {
    log_warning("a page of the cache: {}", e.what());
  }
  lock.lock();
  if (record) {
    load.records.push_back(std::move(*record));
    ++load.read;
    ++loaded_;
  } else {
    load.names.resize(load.read);
  }
  ++reads_;
  read_.notify_all();
}

// A full disk is no reason to stop: what can't be kept will be computed again.
void PageStore::write_next(std::unique_lock<std::mutex>& lock) {
  const Waiting next = std::move(waiting_.front());
  waiting_.pop_front();
  lock.unlock();
  std::string error;
  try {
    files_.write(next.name, next.record);
  } catch (const std::exception& e) {
    error = e.what();
  }
  if (!error.empty() && !failing_) log_warning("{}; prompts are not kept there until it can", error);
  lock.lock();
  failing_ = !error.empty();
  ++(failing_ ? failures_ : saved_);
  waiting_bytes_ -= next.record.size();
  waiting_names_.erase(next.name);
}

}  // namespace hadal::infer
