// Routed experts of a model that is larger than memory: they are read from the checkpoint when a token needs them and
// kept in a bounded number of slots. Nothing is dropped or replaced: whoever asks for an expert gets it, or an Error.
//
// One pass through a layer:
//   ExpertStore::Lease lease = store.acquire(layer, needed);  // reads of what is missing begin
//   store.prefetch(next layer, guess);                        // behind them in the queue
//   while (!(wave = lease.next()).empty()) compute with lease.weights(e) for e in wave;
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hadal/io/async_reader.h"
#include "hadal/stream/expert_layout.h"
#include "hadal/stream/use_counts.h"

namespace hadal::stream {

struct ExpertStats {
  std::uint64_t hits = 0;           // an expert was in memory when a layer asked for it
  std::uint64_t misses = 0;         // it was not, whether or not its reading had begun
  std::uint64_t late = 0;           // of the misses: guessed, and on its way
  std::uint64_t prefetched = 0;     // experts read (or begun to be) on a guess
  std::uint64_t prefetch_used = 0;  // of those: asked for by the layer they were read for
  std::uint64_t bytes_read = 0;     // from disk, whole pages
  std::uint64_t rearranged = 0;     // matrices of experts that were used again
  double stall_seconds = 0;         // nothing to compute, waiting for the disk
  std::uint64_t memory = 0, resident_bytes = 0, expert_bytes = 0;  // the budget, what is always there, one slot
  Index slots = 0, experts = 0;                                    // room for, and how many the model has
  bool io_uring = false, direct = false;
};

struct ExpertStoreOptions {
  std::uint64_t memory = 0;           // bytes for everything below and the slots
  bool strict = true;                 // false: a sequence that grows too large for it is no Error
  std::uint64_t resident_bytes = 0;   // weights that stay in memory
  std::filesystem::path counts_file;  // of UseCounts; empty: nothing is remembered
  io::AsyncReader::Backend backend = io::AsyncReader::Backend::kAuto;
  // If there is one, experts that are used again while they are in memory are rearranged for its instruction set
  // (row_groups.h), by its threads. Must outlive the store.
  Context* ctx = nullptr;
};

// One thread at a time. Must not outlive `files`.
class ExpertStore {
 public:
  // layers[l][e]: expert e of the l-th MoE layer, bound to the mappings of `files`. Throws Error when the memory is too
  // small for what stays and twice the experts of a token; the sentence has the least that is enough.
  ExpertStore(const io::CheckpointFiles& files, std::vector<std::span<FeedForward>> layers, Index num_experts_per_tok,
              ExpertStoreOptions options);
  ~ExpertStore();
  ExpertStore(const ExpertStore&) = delete;
  ExpertStore& operator=(const ExpertStore&) = delete;

  // Before the layers run: `other_bytes` is what the sequences' caches and intermediate results take by now. The slots
  // shrink accordingly, and grow again when no pass has needed as much for a while (64 to 128 passes): prompts and
  // answers take turns. Throws Error if a file of the model was changed, or if nothing is left for experts.
  void begin_pass(std::uint64_t other_bytes);

  // The most that begin_pass may be told so that twice the experts of a token still have slots.
  std::uint64_t most_other_bytes() const;

  // A guess of what `layer` will need, the likeliest first. Reads as many as seems worth it.
  void prefetch(Index layer, std::span<const Index> experts);

  // The experts that one layer needs, ascending, each handed out once. While it lives nothing else may be acquired.
  class Lease {
   public:
    Lease(ExpertStore& store, Index layer, std::vector<Index> needed);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    // Those that are in memory and were not handed out before; gives up the ones of the call before. Waits for at least
    // one if `wait`. Empty: all were handed out (or, without waiting, none is there yet).
    std::vector<Index> next(bool wait = true);
    // An entry per expert; those of the last next() are bound.
    std::span<const ops::FeedForwardRef> weights() const { return weights_; }

   private:
    void release_wave();
    void start_reads();

    ExpertStore& store_;
    Index layer_;
    std::vector<Index> needed_;  // neither handed out nor given up
    std::vector<Index> unread_;  // of those: no slot yet
    std::vector<Index> wave_;
    std::vector<ops::FeedForwardRef> weights_;
  };
  Lease acquire(Index layer, std::vector<Index> needed) { return Lease(*this, layer, std::move(needed)); }

  ExpertStats stats() const;

 private:
  enum class SlotState { kEmpty, kReading, kReady };
  struct Slot {
    SlotState state = SlotState::kEmpty;
    Index layer = -1, expert = -1;
    std::size_t pending = 0;  // reads
    bool leased = false;      // the layer that is running needs it
    bool guessed = false;     // read on a guess that has not been judged yet
    bool abandoned = false;   // part of its reads was taken back
    int uses = 0;             // since it was read, up to two
    std::uint64_t last_use = 0;
    std::string fault;
    FeedForward weights;
  };
  struct Memory;

  std::size_t key(Index layer, Index expert) const { return static_cast<std::size_t>(layer * num_experts_ + expert); }
  Slot* find(Index layer, Index expert);
  std::byte* memory_of(const Slot& slot) const;
  void check_files() const;
  void resize(Index slots);
  void choose_hot();
  void judge_guesses(Index layer, const std::vector<Index>& needed);
  Slot* victim(bool for_guess);
  void start_read(Slot& slot, Index layer, Index expert, bool urgent);
  void take(const io::AsyncReader::Result& result);
  void take_what_came();
  void complete(Slot& slot);
  void rearrange(Slot& slot);
  void clear(Slot& slot);
  std::string describe(const Slot& slot, const io::AsyncReader::Result& result) const;

  const io::CheckpointFiles& files_;
  std::vector<std::span<FeedForward>> layers_;
  ExpertStoreOptions options_;
  Index num_experts_ = 0;
  std::uint64_t least_ = 0;            // bytes for what stays and twice the experts of a token
  std::vector<ExpertLayout> layouts_;  // by key
  std::uint64_t slot_bytes_ = 0;
  Index active_ = 0;  // slots in use; the others have given their memory back
  std::vector<Slot> slots_;
  std::vector<std::int32_t> slot_of_;        // by key, -1: none
  std::vector<bool> hot_;                    // by key
  std::vector<std::vector<Index>> guesses_;  // by layer: experts read on a guess and not judged yet
  double guess_worth_ = 1;                   // running share of guesses that were right
  std::uint64_t clock_ = 0, passes_ = 0;
  std::uint64_t most_now_ = 0,
                most_before_ = 0;  // other_bytes of passes since the last choice, and since the one before
  UseCounts counts_;
  ExpertStats stats_;
  std::unique_ptr<Memory> memory_;
  Tensor matrix_;                            // one being rearranged
  std::unique_ptr<io::AsyncReader> reader_;  // last: its end waits for reads into memory_
};

}  // namespace hadal::stream
