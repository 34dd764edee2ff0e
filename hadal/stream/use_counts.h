// How often each routed expert was used, kept between runs so that the experts a model likes best stay in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "hadal/core/tensor.h"

namespace hadal::stream {

class UseCounts {
 public:
  UseCounts(Index num_layers, Index num_experts);

  void add(Index layer, Index expert) { ++fresh_[at(layer, expert)]; }
  std::uint64_t count(Index layer, Index expert) const { return kept_[at(layer, expert)] + fresh_[at(layer, expert)]; }

  // Takes what the file has; nothing if there is none. A damaged file is ignored with a warning. One with more or fewer
  // layers is the same model's, with or without the MTP layers behind the others: what is of no use here is kept.
  void load(const std::filesystem::path& file);
  // Adds what was counted here to what the file has by now and replaces it whole: of several processes none leaves a
  // torn file, and what one that ends at the same moment counted may be lost. A folder that cannot be written is a
  // warning.
  void save(const std::filesystem::path& file) const;

 private:
  std::size_t at(Index layer, Index expert) const { return static_cast<std::size_t>(layer * num_experts_ + expert); }

  Index num_layers_, num_experts_;
  std::vector<std::uint64_t> kept_, fresh_;  // kept_: of as many layers or more
};

// FNV-1a, 64 bits: it notices every single flipped bit.
std::uint64_t checksum(std::string_view text);

// $XDG_CACHE_HOME/hadal, else ~/.cache/hadal; empty if neither variable is set.
std::filesystem::path cache_directory();

}  // namespace hadal::stream
