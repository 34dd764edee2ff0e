// Batches of token sequences from a data set, in an order that is a pure function of (data, seed, what was asked for):
// not of threads, not of where a run was interrupted.
//
// The training tokens of a source, document behind document, are cut into blocks. In each epoch the blocks come in an
// order of their own (data/permutation.h), and each is given out from its beginning to its end, a sequence at a time;
// its last one, if it is not full, is filled up with positions that have no part in the loss. So every token comes
// exactly once an epoch, whatever the batch size, and sequences may become longer or shorter between steps without a
// token repeated or left out. A block is as long as the longest sequence of a run, or a multiple: what is one piece of
// text stays one.
//
// From which source the next sequence comes is no matter of chance: the one that is farthest behind its share.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "hadal/core/tensor.h"
#include "hadal/data/dataset.h"

namespace hadal::data {

struct Batch {
  // I32 [B, S]. A target is the token behind an id: also across the end of a document, into the next one.
  Tensor ids, targets;
  // I32 [B, S]: the documents of a row, counted from 0; -1 where it was filled up. For masks between documents.
  Tensor documents;
  std::vector<int> sources;  // [B] of each row; -1: nothing was left for it
  Index tokens = 0;          // ids that were not filled up
};

struct LoaderState {
  struct Source {
    std::string name;
    std::uint64_t epoch = 0;
    std::uint64_t block = 0;   // the how-manieth of the epoch
    std::uint64_t offset = 0;  // tokens of it that were given out
    std::uint64_t served = 0;  // tokens, in all epochs
  };
  io::Digest dataset{};
  Split split = Split::kTrain;
  std::uint64_t seed = 0, block = 0;
  bool shuffle = true;
  std::vector<Source> sources;
};

io::Json to_json(const LoaderState& state);
// Throws Error, `where` in front, for what is no such document.
LoaderState parse_loader_state(const io::Json& json, const std::string& where);

struct LoaderOptions {
  struct Share {
    std::optional<double> weight, epochs;
  };
  Split split = Split::kTrain;
  Index block = 0;  // tokens; a multiple of every sequence length that will be asked for
  std::uint64_t seed = 0;
  bool shuffle = true;
  // By source, instead of what the data set says (of training). Without weights, sources are mixed by their sizes.
  std::map<std::string, Share> mixture;
  std::optional<double> epochs;   // of sources that say nothing themselves; none: without end
  bool within_documents = false;  // the target of a document's last token is kIgnored
  int workers = 1, prefetch = 2;  // threads, and batches that they make in advance; they change no byte
};

class Loader {
 public:
  // `dataset` outlives it. Throws Error for a split without tokens and a mixture that does not fit the data set.
  Loader(const Dataset& dataset, const LoaderOptions& options);
  // Goes on from a state; throws Error that names what differs if it belongs to another data set, seed or block.
  Loader(const Dataset& dataset, const LoaderOptions& options, const LoaderState& state);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next batch; false when all epochs are over. Both sizes may change from call to call. Throws Error for a shard
  // that is damaged; the state is as before then.
  bool next(Index batch_size, Index sequence_length, Batch& out);
  // After the last batch that next() gave.
  LoaderState state() const;

  // Tokens of all epochs together; none if they have no end.
  std::optional<std::uint64_t> total_tokens() const;

 private:
  struct Job;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hadal::data
