#include "hadal/eval/logits.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "hadal/core/transfer.h"
#include "hadal/io/safetensors.h"

namespace hadal::eval {
namespace {

using model::Form;
using config::TokenId;

void append(Context& ctx, Rows& rows, const ConstTensorRef& value) {
  const Tensor packed = host_copy(ctx, value);
  rows.dtype = value.dtype();
  rows.row_shape = Shape(value.shape().begin() + 1, value.shape().end());
  rows.count += value.size(0);
  const auto* bytes = static_cast<const std::byte*>(packed->raw());
  rows.bytes.insert(rows.bytes.end(), bytes, bytes + packed->num_bytes());
}

// Of what a pass names, what the goldens of other implementations have too.
bool is_written(const std::string& name) {
  constexpr std::string_view kWritten[] = {"latent",   "k_rope",      "attn_heads", "attn_out", "router_logits",
                                           "topk_idx", "topk_weight", "moe_out",    "hidden",   "hidden_normed"};
  const std::string_view last = std::string_view(name).substr(name.find('.') + 1);
  return std::find(std::begin(kWritten), std::end(kWritten), last) != std::end(kWritten);
}

}  // namespace

std::map<std::string, Rows> compute_logits(Context& ctx, const model::Transformer& transformer,
                                           std::span<const TokenId> ids, const LogitsOptions& options,
                                           const std::function<void(Index)>& progress) {
  std::map<std::string, Rows> out;
  Trace trace([&](const std::string& name, const ConstTensorRef& v) {
    if (is_written(name)) append(ctx, out[name], v);
  });
  std::optional<Observers::Watch> watch;
  if (options.trace) watch.emplace(ctx.observers, trace);
  const auto total = static_cast<Index>(ids.size());
  const Index absorbed_from = options.decode_from < 0 ? total : options.decode_from;
  model::SequenceState state = transformer.new_sequence(total, options.cache_dtype, ctx.memory);
  for (Index begin = 0, end = 0; begin < total; begin = end) {
    const bool absorbed = begin >= absorbed_from;
    end = absorbed ? begin + 1 : std::min({begin + options.chunk, total, absorbed_from});
    const Form form = absorbed ? Form::kAbsorbed : Form::kExpanded;
    const Workspace::Scope scope(ctx.workspace);
    TensorRef hidden = transformer.hidden(
        ctx, ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)), form, state);
    append(ctx, out["logits"], transformer.logits(ctx, hidden));
    for (Index depth = 0; depth < static_cast<Index>(transformer.mtp.size()); ++depth) {
      const Index rows = std::min(end, total - 1 - depth) - begin;
      if (rows <= 0) break;
      const auto next = ids.subspan(static_cast<std::size_t>(begin + 1 + depth), static_cast<std::size_t>(rows));
      hidden = transformer.mtp_hidden(ctx, depth, next, hidden.rows(0, rows), form, state);
      append(ctx, out["mtp" + std::to_string(depth) + ".logits"], transformer.mtp_logits(ctx, depth, hidden));
    }
    if (progress) progress(end);
  }
  return out;
}

void write_rows(const std::filesystem::path& path, const std::map<std::string, Rows>& tensors) {
  std::vector<io::SafetensorsWriter::Entry> entries;
  for (const auto& [name, rows] : tensors) {
    Shape shape{rows.count};
    for (Index d : rows.row_shape) shape.push_back(d);
    entries.push_back({name, rows.dtype, shape});
  }
  io::SafetensorsWriter writer(path, entries);
  for (const auto& [name, rows] : tensors) writer.write(rows.bytes);
  writer.finish();
}

}  // namespace hadal::eval
