#include "hadal/stream/row_groups.h"

#include <chrono>
#include <map>
#include <set>

#include "hadal/core/log.h"
#include "hadal/core/out_of_memory.h"
#include "hadal/ops/row_groups.h"
#include "hadal/stream/expert_layout.h"

namespace hadal::stream {

using model::Block;
using model::Mla;
using model::Mtp;
using model::Transformer;
using weights::is_matrix;
using weights::ParamInfo;
using weights::ParamRole;
using weights::Weight;
namespace {

// Copied at a time; then the pages that were read are given up.
constexpr std::uint64_t kBatchBytes = 256 << 20;
constexpr std::uint64_t kAlignment = 64;

// A weight on its way into memory of its own, for all that share its tensor.
struct Rearranged {
  std::vector<Weight*> same;
  bool rounded = false;  // to int8, otherwise as stored
  std::uint64_t values_room() const {
    const Weight& w = *same[0];
    const std::uint64_t bytes = rounded ? ops::rounded_bytes(w) : static_cast<std::uint64_t>(w.values.num_bytes());
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  std::uint64_t grid_room() const { return rounded ? 0 : ops::grouped_grid_bytes(*same[0]); }
  std::uint64_t room() const { return values_room() + grid_room(); }
};
using AllRearranged = std::map<const void*, Rearranged>;  // by the tensor's address

// Tensors that are read row by row, by address.
std::set<const void*> read_by_rows(const Transformer& t) {
  std::set<const void*> rows = {t.embed_tokens.values.address()};
  for (const Mtp& module : t.mtp) rows.insert(module.embed_tokens.values.address());
  return rows;
}

// kv_b_proj of all layers: absorbing reads its rows, all other products can read groups.
std::map<const Weight*, const Mla*> absorbed_weights(const Transformer& t) {
  std::map<const Weight*, const Mla*> all;
  for (const Block& block : t.layers) all.emplace(&block.self_attn.kv_b_proj.weight, &block.self_attn);
  for (const Mtp& module : t.mtp) all.emplace(&module.block.self_attn.kv_b_proj.weight, &module.block.self_attn);
  return all;
}

// Heads are cut out of it: their rows must be whole groups.
bool has_whole_groups(const Mla& attention) {
  return attention.nope % ops::kGroupRows == 0 && attention.v % ops::kGroupRows == 0;
}

// Products that round x to int8 round these weights too: not the router, nor kv_b_proj, which heads read.
bool may_be_rounded(ParamRole role, bool absorbed) {
  return role != ParamRole::kRouter && role != ParamRole::kEmbedding && !absorbed;
}

// Weights to rearrange, those of one tensor together: an MTP layer's head may be the main one.
AllRearranged weights_of(const Context& ctx, Transformer& t, bool streamed) {
  const std::set<const void*> rows = read_by_rows(t);
  const auto absorbed = absorbed_weights(t);
  AllRearranged all;
  t.for_each_param([&](const std::string&, Weight& w, const ParamInfo& info) {
    if (!is_matrix(info.role) || !ops::can_group_rows(w) || rows.contains(w.values.address())) return;
    if (streamed && info.routed_expert) return;
    // Of a streamed model its rows stay anyway, and memory is short.
    if (const auto kv_b = absorbed.find(&w); kv_b != absorbed.end() && (streamed || !has_whole_groups(*kv_b->second)))
      return;
    Rearranged& one = all[w.values.address()];
    one.same.push_back(&w);
    one.rounded = ops::rounds_to_int8(ctx, w) && may_be_rounded(info.role, absorbed.contains(&w));
  });
  return all;
}

// What products alone read needs its rows no more.
void drop_rows(const AllRearranged& rearranged, const Transformer& t) {
  const auto absorbed = absorbed_weights(t);
  for (const auto& [tensor, one] : rearranged)
    for (Weight* w : one.same)
      if (!absorbed.contains(w)) {
        w->values = {};
        if (w->packed.scale) w->scale = w->zero = {};
      }
}

// Values, scales and zero points in the order of rows.
std::set<const void*> stored_tensors(Transformer& t) {
  std::set<const void*> all;
  t.for_each_param([&](const std::string&, Weight& w, const ParamInfo&) {
    for (const ConstTensorRef& tensor : {w.values, w.scale, w.zero})
      if (tensor) all.insert(tensor.address());
  });
  return all;
}

// Copies from loading (repacked AWQ) that nothing refers to any more.
void free_sources(const std::set<const void*>& before, Transformer& t, std::vector<Tensor>& owned) {
  const std::set<const void*> used = stored_tensors(t);
  std::erase_if(owned, [&](const Tensor& tensor) {
    return before.contains(tensor->address()) && !used.contains(tensor->address());
  });
}

// Rearranges weights batch by batch, each into its place in one block of memory.
class Grouping {
 public:
  Grouping(Context& ctx, const io::CheckpointFiles& files, std::byte* memory) : ctx_(ctx), files_(files), at_(memory) {}

  void add(const Rearranged& one) {
    Part& part = one.rounded ? rounded_ : grouped_;
    part.weights.push_back(one.same[0]);
    part.to.push_back(at_);
    if (one.grid_room() > 0) {
      grids_.weights.push_back(one.same[0]);
      grids_.to.push_back(at_ + one.values_room());
    }
    repeated_.push_back(&one.same);
    at_ += one.room();
    bytes_ += one.room();
    if (bytes_ >= kBatchBytes) finish();
  }

  void finish() {
    ctx_.observers.boundary(-1);
    for (const Part* part : {&grouped_, &rounded_})
      for (const Weight* w : part->weights)
        if (const auto place = place_in_files(w->values, files_)) shards_.insert(place->shard);
    ops::group_rows(ctx_, grouped_.weights, grouped_.to);
    ops::group_grids(ctx_, grids_.weights, grids_.to);
    ops::round_to_int8(ctx_, rounded_.weights, rounded_.to);
    for (const std::vector<Weight*>* same : repeated_)
      for (Weight* w : *same) *w = *same->front();
    for (const int shard : shards_) files_.shards()[static_cast<std::size_t>(shard)].release();
    grouped_ = grids_ = rounded_ = {};
    repeated_.clear();
    shards_.clear();
    bytes_ = 0;
  }

 private:
  Context& ctx_;
  const io::CheckpointFiles& files_;
  std::byte* at_;
  struct Part {
    std::vector<Weight*> weights;
    std::vector<std::byte*> to;
  };
  Part grouped_, grids_, rounded_;
  std::vector<const std::vector<Weight*>*> repeated_;
  std::set<int> shards_;
  std::uint64_t bytes_ = 0;
};

}  // namespace

bool worth_grouping(const Context& ctx, const Weight& w) {
  const DType dtype = w.values.dtype();
  const bool read_by_rows =
      ctx.numerics.activations == Activations::kInt8 && (dtype == DType::kF8E4M3 || dtype == DType::kBF16);
  return ops::reads_groups(ctx) && !read_by_rows && ops::can_group_rows(w);
}

void group_rows(Context& ctx, Transformer& t, const io::CheckpointFiles& files, std::uint64_t memory, bool streamed,
                std::vector<Tensor>& owned) {
  if (!ops::reads_groups(ctx)) return;
  const auto start = std::chrono::steady_clock::now();
  const auto weights = weights_of(ctx, t, streamed);
  std::uint64_t bytes = 0;
  for (const auto& [tensor, one] : weights) bytes += one.room();
  if (bytes == 0) return;
  if (bytes > memory) {
    log_info("weights stay as stored: rearranging them takes {:.1f} GB of memory, {:.1f} GB are free",
             static_cast<double>(bytes) * 1e-9, static_cast<double>(memory) * 1e-9);
    return;
  }
  Tensor block;
  try {
    block = Tensor(DType::kU8, {static_cast<Index>(bytes)});
  } catch (const OutOfMemory&) {
    log_info("weights stay as stored: the system gives no {:.1f} GB of memory", static_cast<double>(bytes) * 1e-9);
    return;
  }
  const std::set<const void*> stored = stored_tensors(t);
  Grouping grouping(ctx, files, static_cast<std::byte*>(block->raw()));
  owned.push_back(std::move(block));
  for (const auto& [tensor, one] : weights) grouping.add(one);
  grouping.finish();
  drop_rows(weights, t);
  free_sources(stored, t, owned);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  log_info("{:.1f} GB of weights rearranged in {:.2f} s", static_cast<double>(bytes) * 1e-9, took.count());
}

}  // namespace hadal::stream
