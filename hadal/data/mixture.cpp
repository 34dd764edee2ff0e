#include "hadal/data/mixture.h"

#include <algorithm>
#include <cmath>

#include "hadal/data/little_endian.h"

namespace hadal::data {
namespace {

// Of a source's name, so that an order does not change when sources are added.
std::uint64_t stream_of(const std::string& name, std::uint64_t epoch) {
  return number_at<std::uint64_t>(io::Sha256().text(name).number(epoch).finish().data());
}

double positive(double value, const char* what, const std::string& source) {
  HADAL_CHECK(std::isfinite(value) && value > 0, "source {}: {} is {}, a number above 0 was expected", source, what,
              value);
  return value;
}

}  // namespace

Mixture::Mixture(const Dataset& dataset, const LoaderOptions& options)
    : block_(static_cast<std::uint64_t>(options.block)), seed_(options.seed), shuffle_(options.shuffle) {
  HADAL_CHECK(options.block > 0, "loader: a block of {} tokens was asked for", options.block);
  const auto& infos = dataset.info().sources;
  for (const auto& [name, share] : options.mixture)
    HADAL_CHECK(std::any_of(infos.begin(), infos.end(), [&](const SourceInfo& s) { return s.name == name; }),
                "{}: has no source {}", dataset.directory().string(), name);
  std::size_t weighed = 0;
  for (std::size_t i = 0; i < infos.size(); ++i) {
    const SourceInfo& info = infos[i];
    const auto it = options.mixture.find(info.name);
    const LoaderOptions::Share given = it == options.mixture.end() ? LoaderOptions::Share{} : it->second;
    Source s{info.name, i, info.split(options.split).tokens, 0, {}};
    if (s.tokens == 0) continue;
    // What the data set says of a source is meant for training.
    const bool train = options.split == Split::kTrain;
    const auto weight = given.weight || !train ? given.weight : info.weight;
    s.weight = weight ? positive(*weight, "weight", s.name) : static_cast<double>(s.tokens);
    weighed += weight.has_value();
    const auto stated = given.epochs || !train ? given.epochs : info.epochs;
    const auto epochs = stated ? stated : options.epochs;
    if (epochs) {
      const double limit = std::round(positive(*epochs, "epochs", s.name) * static_cast<double>(s.tokens));
      if (limit < 0x1p62) s.limit = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(limit));
    }
    sources_.push_back(std::move(s));
  }
  HADAL_CHECK(!sources_.empty(), "{}: has no {} tokens{}", dataset.directory().string(), split_name(options.split),
              options.split == Split::kValidation ? "; build it with --validation" : "");
  HADAL_CHECK(weighed == 0 || weighed == sources_.size(),
              "{}: some of its sources have a weight and others none; give one to all or to none",
              dataset.directory().string());
}

Mixture::Positions Mixture::begin() const {
  Positions out;
  for (const Source& s : sources_) out.push_back({s.name, 0, 0, 0, 0});
  return out;
}

void Mixture::check(const Positions& positions, const std::string& where) const {
  HADAL_CHECK(positions.size() == sources_.size(), "{}: has {} sources, the data set {}", where, positions.size(),
              sources_.size());
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const auto& p = positions[i];
    HADAL_CHECK(p.name == sources_[i].name, "{}: has source {} where the data set has {}", where, p.name,
                sources_[i].name);
    const bool inside = p.block < blocks_of(sources_[i]) && p.offset < block_size(i, block_begin(i, p.epoch, p.block));
    HADAL_CHECK(inside, "{}: source {} stands at block {}, token {}, which it has not", where, p.name, p.block,
                p.offset);
  }
}

std::uint64_t Mixture::block_begin(std::size_t source, std::uint64_t epoch, std::uint64_t number) const {
  if (!shuffle_) return number * block_;
  const Source& s = sources_[source];
  return Permutation(blocks_of(s), seed_, stream_of(s.name, epoch))(number) * block_;
}

std::uint64_t Mixture::block_size(std::size_t source, std::uint64_t begin) const {
  return std::min(block_, sources_[source].tokens - begin);
}

// The lowest of (tokens it would have at this sequence's middle) / weight: after any number of sequences no source is
// further than about one of them from its share, and one that has come to its end leaves the others' shares as they
// are.
int Mixture::whose_turn(const Positions& positions, std::uint64_t length) const {
  int best = -1;
  double least = 0;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const Source& s = sources_[i];
    if (s.limit && positions[i].served >= *s.limit) continue;
    const double at = (static_cast<double>(positions[i].served) + 0.5 * static_cast<double>(length)) / s.weight;
    if (best < 0 || at < least) best = static_cast<int>(i), least = at;
  }
  return best;
}

PlannedRow Mixture::next(Positions& positions, std::uint64_t length) const {
  const int turn = whose_turn(positions, length);
  if (turn < 0) return {};
  const auto i = static_cast<std::size_t>(turn);
  LoaderState::Source& p = positions[i];
  const std::uint64_t begin = block_begin(i, p.epoch, p.block), size = block_size(i, begin);
  PlannedRow row{turn, begin + p.offset, std::min(length, size - p.offset)};
  if (const auto& limit = sources_[i].limit) row.count = std::min(row.count, *limit - p.served);
  p.served += row.count;
  p.offset += row.count;
  if (p.offset == size) p.offset = 0, ++p.block;
  if (p.block == blocks_of(sources_[i])) p.block = 0, ++p.epoch;
  return row;
}

}  // namespace hadal::data
