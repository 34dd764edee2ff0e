// Which bytes of which files make one routed expert, and where they go in a piece of memory of their own. Knows of a
// Weight only that it is a list of tensors: those that lie in a file's mapping are read, others stay where they are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hadal/io/checkpoint_files.h"
#include "hadal/model/layers.h"

namespace hadal::stream {

using model::FeedForward;
using weights::ParamInfo;
using weights::Weight;

struct ExpertLayout {
  // A stretch of a file, from page to page; tensors that are neighbours in the file share one.
  struct Range {
    int shard = 0;                 // of CheckpointFiles::shards
    std::uint64_t begin = 0;       // first byte that is wanted
    std::uint64_t end = 0;         // behind the last one
    std::uint64_t at = 0;          // where the page of `begin` lies in the slot
    std::uint64_t offset() const;  // of that page in the file
    std::uint64_t bytes() const;   // whole pages
  };
  // One tensor of the expert. Its address in a file need not suit its elements; then it is moved after reading.
  struct Place {
    std::uint64_t read_to = 0, at = 0, bytes = 0;  // in the slot
  };
  std::vector<Range> ranges;
  std::vector<std::optional<Place>> places;  // in the order of for_each_tensor; empty: not from a file
  std::uint64_t bytes = 0;                   // of a slot, whole pages
};

// All tensors that the weights of an expert refer to: f(tensor).
template <class F>
void for_each_tensor(FeedForward& expert, F&& f) {
  expert.for_each_param("", [&](const std::string&, Weight& weight, const ParamInfo&) { weight.for_each_tensor(f); });
}

// Where a tensor lies in the files; nothing if it has memory of its own.
struct FilePlace {
  int shard = 0;
  std::uint64_t offset = 0;
};
std::optional<FilePlace> place_in_files(const ConstTensorRef& tensor, const io::CheckpointFiles& files);

// `expert` is bound to the mappings, which are not read.
ExpertLayout lay_out(FeedForward expert, const io::CheckpointFiles& files);

// The expert with its tensors in `slot`, once the layout's ranges have been read there.
FeedForward bind_to_slot(FeedForward expert, const ExpertLayout& layout, std::byte* slot);

}  // namespace hadal::stream
