// The sources of a loader: where each stands, and whose turn it is. Plans rows without reading a token.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hadal/data/loader.h"
#include "hadal/data/permutation.h"

namespace hadal::data {

// A sequence: tokens [first, first + count) of a source, nothing if source is -1.
struct PlannedRow {
  int source = -1;
  std::uint64_t first = 0, count = 0;
};

class Mixture {
 public:
  Mixture(const Dataset& dataset, const LoaderOptions& options);

  struct Source {
    std::string name;
    std::size_t place = 0;  // in the data set
    std::uint64_t tokens = 0;
    double weight = 0;
    std::optional<std::uint64_t> limit;  // tokens of all epochs
  };
  const std::vector<Source>& sources() const { return sources_; }

  using Positions = std::vector<LoaderState::Source>;
  Positions begin() const;
  // Throws Error if these are not positions of these sources.
  void check(const Positions& positions, const std::string& where) const;
  // The next sequence of `length` tokens at most, and moves on; source -1 when all is over.
  PlannedRow next(Positions& positions, std::uint64_t length) const;

 private:
  std::uint64_t blocks_of(const Source& source) const { return (source.tokens + block_ - 1) / block_; }
  // Of the how-manieth block of an epoch: where it begins.
  std::uint64_t block_begin(std::size_t source, std::uint64_t epoch, std::uint64_t number) const;
  std::uint64_t block_size(std::size_t source, std::uint64_t begin) const;
  int whose_turn(const Positions& positions, std::uint64_t length) const;

  std::vector<Source> sources_;
  std::uint64_t block_, seed_;
  bool shuffle_;
};

}  // namespace hadal::data
