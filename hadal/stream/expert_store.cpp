#include "hadal/stream/expert_store.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

#include "hadal/ops/row_groups.h"
#include "hadal/stream/row_groups.h"

namespace hadal::stream {
namespace {

// One read; several of them make a large expert arrive on several lanes at once.
constexpr std::uint64_t kReadBytes = std::uint64_t{1} << 20;
// Cache and intermediate results of this size are not taken from the experts: it is part of the reserve below.
constexpr std::uint64_t kAllowance = std::uint64_t{16} << 20;
constexpr Index kFewestSlots = 2;  // one to compute with, one to read into
// Guesses: how fast the opinion of them changes, and below which worth only one a layer is read, to keep knowing.
constexpr double kGuessMemory = 1.0 / 64;
constexpr double kGuessWorth = 0.5;
// A used expert is hot if it was used so much more often than the mean; hot ones fill at most half of the slots.
constexpr double kHot = 1.25;
constexpr std::uint64_t kPassesBetweenChoices = 64;

std::string megabytes(std::uint64_t bytes) {
  return fmt::format("{} MB", (bytes + 999'999) / 1'000'000);
}

// For what nobody counts: the program, its tokenizer, headers of the files.
std::uint64_t reserve(std::uint64_t memory) {
  return std::min(3 * kAllowance, memory / 16);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

// Anonymous memory for the slots; pages come at their first use.
struct ExpertStore::Memory {
  explicit Memory(std::uint64_t bytes) : size(bytes) {
    void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    HADAL_CHECK(mapped != MAP_FAILED, "memory: there is no room for {} of experts", megabytes(size));
    data = static_cast<std::byte*>(mapped);
    ::madvise(data, size, MADV_HUGEPAGE);
  }
  ~Memory() { ::munmap(data, size); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void give_back(std::uint64_t begin, std::uint64_t end) const { ::madvise(data + begin, end - begin, MADV_DONTNEED); }

  std::byte* data;
  std::uint64_t size;
};

ExpertStore::ExpertStore(const io::CheckpointFiles& files, std::vector<std::span<FeedForward>> layers,
                         Index num_experts_per_tok, ExpertStoreOptions options)
    : files_(files),
      layers_(std::move(layers)),
      options_(std::move(options)),
      num_experts_(static_cast<Index>(layers_.at(0).size())),
      guesses_(layers_.size()),
      counts_(static_cast<Index>(layers_.size()), num_experts_) {
  for (const std::span<FeedForward> layer : layers_)
    for (const FeedForward& expert : layer) {
      layouts_.push_back(lay_out(expert, files));
      slot_bytes_ = std::max(slot_bytes_, layouts_.back().bytes);
    }
  least_ = options_.resident_bytes + 2 * static_cast<std::uint64_t>(num_experts_per_tok) * slot_bytes_;
  HADAL_CHECK(options_.memory >= least_,
              "memory: {} MB are too few for {}, it needs at least {} ({} that stay in memory and {} for twice the {} "
              "experts of a token)",
              options_.memory / 1'000'000, files.directory().string(), megabytes(least_),
              megabytes(options_.resident_bytes), megabytes(least_ - options_.resident_bytes), num_experts_per_tok);
  slot_of_.assign(layouts_.size(), -1);
  hot_.assign(layouts_.size(), false);
  const std::uint64_t room = (std::max(options_.memory - reserve(options_.memory), least_) - options_.resident_bytes);
  active_ = std::min(static_cast<Index>(room / slot_bytes_), static_cast<Index>(layouts_.size()));
  slots_.resize(static_cast<std::size_t>(active_));
  memory_ = std::make_unique<Memory>(static_cast<std::uint64_t>(active_) * slot_bytes_);
  reader_ = std::make_unique<io::AsyncReader>(options_.backend);
  for (const io::SafetensorsFile& shard : files.shards()) reader_->open(shard.path(), shard.identity());
  counts_.load(options_.counts_file);
  choose_hot();
}

ExpertStore::~ExpertStore() {
  counts_.save(options_.counts_file);
}

ExpertStore::Slot* ExpertStore::find(Index layer, Index expert) {
  const std::int32_t slot = slot_of_[key(layer, expert)];
  return slot < 0 ? nullptr : &slots_[static_cast<std::size_t>(slot)];
}

std::byte* ExpertStore::memory_of(const Slot& slot) const {
  return memory_->data + static_cast<std::uint64_t>(&slot - slots_.data()) * slot_bytes_;
}

void ExpertStore::check_files() const {
  for (std::size_t i = 0; i < files_.shards().size(); ++i)
    HADAL_CHECK(!reader_->changed(static_cast<int>(i)),
                "{}: was changed while it was in use (its size or its time of modification is another); start again",
                files_.shards()[i].path().string());
}

void ExpertStore::begin_pass(std::uint64_t other_bytes) {
  check_files();
  take_what_came();
  const auto taken = [&](std::uint64_t bytes) {
    return options_.resident_bytes + (bytes > kAllowance ? bytes - kAllowance : 0);
  };
  const std::uint64_t fewest = static_cast<std::uint64_t>(kFewestSlots) * slot_bytes_,
                      least = taken(other_bytes) + fewest;
  HADAL_CHECK(
      options_.memory >= least || !options_.strict,
      "memory: {} MB are too few by now, the sequences' caches and intermediate results take {}; {} would do; give "
      "more --memory, a shorter --context, fewer sequences (--batch) or a smaller --chunk",
      options_.memory / 1'000'000, megabytes(other_bytes), megabytes(least));
  const bool choose = passes_++ % kPassesBetweenChoices == 0;
  if (choose) most_before_ = std::exchange(most_now_, 0);
  most_now_ = std::max(most_now_, other_bytes);
  const std::uint64_t most = taken(std::max(most_now_, most_before_));
  const std::uint64_t room = std::max(options_.memory - reserve(options_.memory), most + fewest) - most;
  resize(std::min(static_cast<Index>(room / slot_bytes_), static_cast<Index>(slots_.size())));
  if (choose) choose_hot();
}

std::uint64_t ExpertStore::most_other_bytes() const {
  return kAllowance + std::max(options_.memory - reserve(options_.memory), least_) - least_;
}

void ExpertStore::resize(Index slots) {
  for (Index i = slots; i < active_; ++i) {
    Slot& slot = slots_[static_cast<std::size_t>(i)];
    while (slot.state == SlotState::kReading) take(reader_->wait());
    clear(slot);
  }
  if (slots < active_)
    memory_->give_back(static_cast<std::uint64_t>(slots) * slot_bytes_,
                       static_cast<std::uint64_t>(active_) * slot_bytes_);
  active_ = slots;
}

void ExpertStore::choose_hot() {
  std::vector<std::pair<std::uint64_t, std::size_t>> used;
  std::uint64_t sum = 0;
  for (std::size_t k = 0; k < hot_.size(); ++k) {
    const auto index = static_cast<Index>(k);
    sum += used.emplace_back(counts_.count(index / num_experts_, index % num_experts_), k).first;
  }
  std::sort(used.begin(), used.end(), std::greater<>());
  used.resize(std::min(used.size(), static_cast<std::size_t>(active_ / 2)));
  hot_.assign(hot_.size(), false);
  const double mean = static_cast<double>(sum) / static_cast<double>(hot_.size());
  for (const auto& [count, k] : used) hot_[k] = static_cast<double>(count) > kHot * mean;
}

void ExpertStore::clear(Slot& slot) {
  if (slot.layer >= 0) slot_of_[key(slot.layer, slot.expert)] = -1;
  slot = Slot{};
}

// The slot to fill next, nullptr if there is none now. A guess may only displace what is certainly worth less.
ExpertStore::Slot* ExpertStore::victim(bool for_guess) {
  Slot* best = nullptr;
  std::pair<int, std::uint64_t> least{0, 0};
  for (Slot& slot : std::span(slots_).first(static_cast<std::size_t>(active_))) {
    if (slot.leased || slot.state == SlotState::kReading) continue;
    const bool empty = slot.state == SlotState::kEmpty;
    const bool hot = !empty && hot_[key(slot.layer, slot.expert)];
    if (for_guess && (hot || slot.guessed)) continue;
    const std::pair rank(empty ? 0 : hot ? 3 : slot.guessed ? 2 : 1, slot.last_use);
    if (!best || rank < least) best = &slot, least = rank;
  }
  return best;
}

void ExpertStore::start_read(Slot& slot, Index layer, Index expert, bool urgent) {
  clear(slot);
  const auto index = static_cast<std::size_t>(&slot - slots_.data());
  const ExpertLayout& layout = layouts_[key(layer, expert)];
  slot_of_[key(layer, expert)] = static_cast<std::int32_t>(index);
  slot.state = SlotState::kReading;
  slot.layer = layer;
  slot.expert = expert;
  slot.last_use = ++clock_;
  for (const ExpertLayout::Range& range : layout.ranges)
    for (std::uint64_t at = 0; at < range.bytes(); at += kReadBytes) {
      const std::uint64_t bytes = std::min(kReadBytes, range.bytes() - at), offset = range.offset() + at;
      ++slot.pending;
      reader_->submit({.file = range.shard,
                       .offset = offset,
                       .bytes = bytes,
                       .to = memory_of(slot) + range.at + at,
                       .needed = std::min(range.end - offset, bytes),
                       .tag = index},
                      urgent);
    }
  if (slot.pending == 0) complete(slot);
}

std::string ExpertStore::describe(const Slot& slot, const io::AsyncReader::Result& result) const {
  const io::SafetensorsFile& shard = files_.shards()[static_cast<std::size_t>(result.read.file)];
  std::uint64_t at = result.read.offset + result.done;
  // The first page of a range may begin with another expert's bytes.
  for (const ExpertLayout::Range& range : layouts_[key(slot.layer, slot.expert)].ranges)
    if (range.shard == result.read.file && range.offset() == result.read.offset) at = std::max(at, range.begin);
  const io::TensorInfo* tensor = shard.tensor_at(at);
  return fmt::format(
      "{}: tensor {} cannot be read: {}{}", shard.path().string(), tensor ? tensor->name : "?", result.fault,
      reader_->changed(result.read.file) ? "; the file was changed while it was in use, start again" : "");
}

void ExpertStore::take(const io::AsyncReader::Result& result) {
  Slot& slot = slots_[result.read.tag];
  stats_.bytes_read += result.done;
  if (!result.fault.empty() && slot.fault.empty()) slot.fault = describe(slot, result);
  if (--slot.pending == 0) complete(slot);
}

void ExpertStore::take_what_came() {
  while (const auto result = reader_->poll()) take(*result);
}

void ExpertStore::complete(Slot& slot) {
  const std::string fault = slot.fault;
  if (!fault.empty() || slot.abandoned) {
    const bool leased = slot.leased;
    clear(slot);
    // An expert nobody asked for is tried again by whoever will.
    if (leased) throw Error(fault);
    return;
  }
  slot.state = SlotState::kReady;
  const FeedForward& mapped = layers_[static_cast<std::size_t>(slot.layer)][static_cast<std::size_t>(slot.expert)];
  slot.weights = bind_to_slot(mapped, layouts_[key(slot.layer, slot.expert)], memory_of(slot));
}

// To a matrix of its own and back: its place in the slot need not be aligned.
void ExpertStore::rearrange(Slot& slot) {
  Context& ctx = *options_.ctx;
  slot.weights.for_each_param("", [&](const std::string&, Weight& weight, const ParamInfo&) {
    if (!worth_grouping(ctx, weight)) return;
    const ConstTensorRef place = weight.values;
    std::byte* const at = memory_of(slot) + (static_cast<const std::byte*>(place.raw()) - memory_of(slot));
    const Index bytes = place.num_bytes();
    if (!matrix_ || matrix_->num_bytes() < bytes) matrix_ = Tensor(DType::kU8, {bytes});
    auto* copy = static_cast<std::byte*>(matrix_->raw());
    Weight* const one = &weight;
    ops::group_rows(ctx, {&one, 1}, {&copy, 1});
    ctx.threads.parallel_for(bytes, std::max<Index>(1, bytes / 16), [&](Index begin, Index end) {
      std::memcpy(at + begin, copy + begin, static_cast<std::size_t>(end - begin));
    });
    weight.packed.values = std::exchange(weight.values, {});
    ++stats_.rearranged;
  });
}

void ExpertStore::prefetch(Index layer, std::span<const Index> experts) {
  take_what_came();
  const Index most = std::max<Index>(1, active_ / 4);
  Index allowed = guess_worth_ >= kGuessWorth ? static_cast<Index>(experts.size()) : 1;
  std::vector<Index>& guesses = guesses_[static_cast<std::size_t>(layer)];
  for (const Index e : experts) {
    if (allowed-- == 0 || static_cast<Index>(guesses.size()) >= most) return;
    if (find(layer, e)) continue;
    Slot* slot = victim(true);
    if (!slot) return;
    start_read(*slot, layer, e, false);
    slot->guessed = true;
    guesses.push_back(e);
    ++stats_.prefetched;
  }
}

// What was guessed for `layer` is known now: right, or to be taken back as far as it has not begun.
void ExpertStore::judge_guesses(Index layer, const std::vector<Index>& needed) {
  for (const Index e : guesses_[static_cast<std::size_t>(layer)]) {
    const bool right = std::binary_search(needed.begin(), needed.end(), e);
    guess_worth_ += kGuessMemory * ((right ? 1 : 0) - guess_worth_);
    if (right) ++stats_.prefetch_used;
    Slot* slot = find(layer, e);
    if (!slot || !slot->guessed) continue;
    slot->guessed = false;
    if (right || slot->state != SlotState::kReading) continue;
    const std::size_t taken_back = reader_->cancel(static_cast<std::uint64_t>(slot - slots_.data()));
    slot->pending -= taken_back;
    slot->abandoned = taken_back > 0;
    if (slot->pending == 0) complete(*slot);
  }
  guesses_[static_cast<std::size_t>(layer)].clear();
}

ExpertStore::Lease::Lease(ExpertStore& store, Index layer, std::vector<Index> needed)
    : store_(store), layer_(layer), needed_(std::move(needed)), weights_(static_cast<std::size_t>(store.num_experts_)) {
  store.take_what_came();
  store.judge_guesses(layer, needed_);
  for (const Index e : needed_) {
    store.counts_.add(layer, e);
    Slot* slot = store.find(layer, e);
    const bool ready = slot && slot->state == SlotState::kReady;
    ++(ready ? store.stats_.hits : store.stats_.misses);
    // A read that was abandoned brings only a part: it is waited for and begun anew.
    if (slot && !slot->abandoned) {
      slot->leased = true;
      if (ready) continue;
      ++store.stats_.late;
      store.reader_->hasten(static_cast<std::uint64_t>(slot - store.slots_.data()));
    } else {
      unread_.push_back(e);
    }
  }
  start_reads();
}

ExpertStore::Lease::~Lease() {
  release_wave();
  for (const Index e : needed_)
    if (Slot* slot = store_.find(layer_, e)) slot->leased = false;
}

void ExpertStore::Lease::release_wave() {
  for (const Index e : wave_) {
    Slot* slot = store_.find(layer_, e);
    slot->leased = false;
    slot->last_use = ++store_.clock_;
    weights_[static_cast<std::size_t>(e)] = {};
  }
  wave_.clear();
}

void ExpertStore::Lease::start_reads() {
  bool full = false;
  std::erase_if(unread_, [&](Index e) {
    if (full || store_.find(layer_, e)) return false;  // found: abandoned, and not over yet
    Slot* slot = store_.victim(false);
    full = !slot;
    if (full) return false;
    store_.start_read(*slot, layer_, e, true);
    slot->leased = true;
    return true;
  });
}

std::vector<Index> ExpertStore::Lease::next(bool wait) {
  release_wave();
  for (;;) {
    store_.take_what_came();
    start_reads();
    std::erase_if(needed_, [&](Index e) {
      Slot* slot = store_.find(layer_, e);
      if (!slot || slot->state != SlotState::kReady) return false;
      if (slot->uses < 2 && ++slot->uses == 2 && store_.options_.ctx) store_.rearrange(*slot);
      weights_[static_cast<std::size_t>(e)] = slot->weights.weights();
      wave_.push_back(e);
      return true;
    });
    if (!wave_.empty() || needed_.empty() || !wait) return wave_;
    const auto start = std::chrono::steady_clock::now();
    const io::AsyncReader::Result result = store_.reader_->wait();
    store_.stats_.stall_seconds += seconds_since(start);
    store_.take(result);
  }
}

ExpertStats ExpertStore::stats() const {
  ExpertStats s = stats_;
  s.memory = options_.memory;
  s.resident_bytes = options_.resident_bytes;
  s.expert_bytes = slot_bytes_;
  s.slots = active_;
  s.experts = static_cast<Index>(layouts_.size());
  s.io_uring = reader_->backend() == io::AsyncReader::Backend::kIoUring;
  s.direct = true;
  for (std::size_t i = 0; i < files_.shards().size(); ++i) s.direct = s.direct && reader_->direct(static_cast<int>(i));
  return s;
}

}  // namespace hadal::stream
