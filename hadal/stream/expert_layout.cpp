#include "hadal/stream/expert_layout.h"

#include <algorithm>
#include <cstring>

#include "hadal/io/async_reader.h"

namespace hadal::stream {
namespace {

constexpr std::uint64_t kPage = io::AsyncReader::kAlignment;
// Reading so much between two tensors for nothing is cheaper than another read.
constexpr std::uint64_t kBridge = std::uint64_t{64} << 10;
constexpr std::uint64_t kTensorAlignment = 64;

std::uint64_t page_of(std::uint64_t offset) {
  return offset / kPage * kPage;
}
std::uint64_t rounded(std::uint64_t bytes, std::uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

struct Piece {
  int shard;
  std::uint64_t begin, end, element;
  std::size_t tensor;
};

std::vector<Piece> pieces_of(FeedForward& expert, const io::CheckpointFiles& files, std::size_t& tensors) {
  std::vector<Piece> pieces;
  for_each_tensor(expert, [&](ConstTensorRef& t) {
    if (const auto place = place_in_files(t, files)) {
      HADAL_CHECK(t.is_contiguous(), "experts: a slice of a tensor cannot be read on its own");
      pieces.push_back({place->shard, place->offset, place->offset + static_cast<std::uint64_t>(t.num_bytes()),
                        dtype_bytes(t.dtype()), tensors});
    }
    ++tensors;
  });
  std::sort(pieces.begin(), pieces.end(),
            [](const Piece& a, const Piece& b) { return std::pair(a.shard, a.begin) < std::pair(b.shard, b.begin); });
  return pieces;
}

}  // namespace

std::uint64_t ExpertLayout::Range::offset() const {
  return page_of(begin);
}
std::uint64_t ExpertLayout::Range::bytes() const {
  return rounded(end, kPage) - page_of(begin);
}

std::optional<FilePlace> place_in_files(const ConstTensorRef& tensor, const io::CheckpointFiles& files) {
  for (std::size_t i = 0; i < files.shards().size(); ++i)
    if (const auto offset = files.shards()[i].offset_of(tensor.address()))
      return FilePlace{static_cast<int>(i), *offset};
  return std::nullopt;
}

ExpertLayout lay_out(FeedForward expert, const io::CheckpointFiles& files) {
  ExpertLayout out;
  std::size_t tensors = 0;
  const std::vector<Piece> pieces = pieces_of(expert, files, tensors);
  out.places.resize(tensors);
  for (const Piece& p : pieces) {
    const bool near =
        !out.ranges.empty() && out.ranges.back().shard == p.shard && p.begin <= out.ranges.back().end + kBridge;
    if (near)
      out.ranges.back().end = std::max(out.ranges.back().end, p.end);
    else
      out.ranges.push_back({.shard = p.shard, .begin = p.begin, .end = p.end});
  }
  for (ExpertLayout::Range& range : out.ranges) {
    range.at = out.bytes;
    out.bytes += range.bytes();
  }
  for (const Piece& p : pieces) {
    const auto range = std::find_if(out.ranges.begin(), out.ranges.end(), [&](const ExpertLayout::Range& r) {
      return r.shard == p.shard && r.begin <= p.begin && p.end <= r.end;
    });
    const std::uint64_t read_to = range->at + p.begin - range->offset();
    ExpertLayout::Place place{.read_to = read_to, .at = read_to, .bytes = p.end - p.begin};
    if (read_to % p.element != 0) {
      place.at = rounded(out.bytes, kTensorAlignment);
      out.bytes = place.at + place.bytes;
    }
    out.places[p.tensor] = place;
  }
  out.bytes = rounded(out.bytes, kPage);
  return out;
}

FeedForward bind_to_slot(FeedForward expert, const ExpertLayout& layout, std::byte* slot) {
  std::size_t i = 0;
  for_each_tensor(expert, [&](ConstTensorRef& t) {
    const auto& place = layout.places[i++];
    if (!place) return;
    if (place->at != place->read_to) std::memcpy(slot + place->at, slot + place->read_to, place->bytes);
    t = ConstTensorRef(slot + place->at, t.dtype(), t.shape());
  });
  return expert;
}

}  // namespace hadal::stream
