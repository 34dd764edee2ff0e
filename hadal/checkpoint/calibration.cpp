#include "hadal/checkpoint/calibration.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "hadal/ops/elementwise.h"

namespace hadal::checkpoint {
namespace {

using model::Block;
using model::FeedForward;

constexpr std::string_view kLayers = "model.layers.";

// "model.layers.3.mlp.up_proj.weight" -> 3 and "mlp.up_proj"; -1 outside the layers.
std::pair<Index, std::string> split(const std::string& name) {
  if (!name.starts_with(kLayers)) return {-1, name};
  Index layer = -1;
  const char* begin = name.data() + kLayers.size();
  const auto [end, error] = std::from_chars(begin, name.data() + name.size(), layer);
  if (error != std::errc() || end == name.data() + name.size()) return {-1, name};
  std::string part(end + 1, name.data() + name.size());
  const std::string suffix = ".weight";
  if (part.ends_with(suffix)) part.resize(part.size() - suffix.size());
  return {layer, part};
}

bool is_down(const std::string& part) {
  return part.ends_with("down_proj");
}

void put_rows(const Tensor& to, Index row, const ConstTensorRef& rows) {
  const auto from = rows.view<float, 2>();
  const auto target = to->view<float, 2>();
  for (Index r = 0; r < rows.size(0); ++r)
    std::memcpy(target.row(row + r), from.row(r), static_cast<std::size_t>(rows.size(1)) * sizeof(float));
}

// The input of down_proj.
Tensor inner(Context& ctx, const FeedForward& f, const ConstTensorRef& x) {
  const Workspace::Scope scope(ctx.workspace);
  return Tensor::copy_of(ops::swiglu(ctx, f.gate_proj.forward(ctx, x), f.up_proj.forward(ctx, x)));
}

}  // namespace

Calibration::Calibration(Context& ctx, const stream::LoadedModel& model, const CalibrationText& text)
    : ctx_(ctx), model_(model) {
  const auto& config = model.transformer.config;
  const Index window = std::min(kWindow, config.max_position_embeddings);
  const Index total = std::min<Index>(static_cast<Index>(text.ids.size()), kMostTokens);
  HADAL_CHECK(total > 0, "calibrate: the text is empty");
  for (Index at = 0; at < total;) {
    const Index count = std::min(window - 1, total - at);
    windows_.push_back({static_cast<Index>(ids_.size()), static_cast<Index>(ids_.size()), count + 1});
    ids_.push_back(text.bos);
    ids_.insert(ids_.end(), text.ids.begin() + at, text.ids.begin() + at + count);
    at += count;
  }
  x_ = Tensor(DType::kF32, {static_cast<Index>(ids_.size()), config.hidden_size});
  for (const Window& w : windows_) {
    const Workspace::Scope scope(ctx_.workspace);
    const auto part = std::span(ids_).subspan(static_cast<std::size_t>(w.first_id), static_cast<std::size_t>(w.length));
    put_rows(x_, w.row, ops::embedding(ctx_, model.transformer.embed_tokens, part));
  }
}

std::string Calibration::key(const std::string& name) {
  const auto [layer, part] = split(name);
  std::string base = part;
  for (const char* end : {"gate_proj", "up_proj"})
    if (base.ends_with(end)) base = base.substr(0, base.size() - std::strlen(end)) + "in";
  for (const char* end : {"self_attn.q_proj", "self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa"})
    if (base == end) base = "self_attn.in";
  return std::to_string(layer) + "." + base;
}

const Block& Calibration::block() const {
  const auto& t = model_.transformer;
  const auto i = static_cast<std::size_t>(layer_);
  return i < t.layers.size() ? t.layers[i] : t.mtp[i - t.layers.size()].block;
}

// Keeps what the layer's linears are given, for the rows of one window.
class Calibration::Inputs : public Observer {
 public:
  Inputs(Calibration& to, Index row) : to_(to), row_(row) {}
  void on_value(std::string_view name, const ConstTensorRef& value) override {
    if (name == "attn_norm") put_rows(to_.attention_, row_, value);
    if (name == "q_latent") put_rows(to_.c_q_, row_, value);
    if (name == "latent") put_rows(to_.c_kv_, row_, value);
    if (name == "attn_heads") put_rows(to_.heads_, row_, value);
    if (name == "ffn_norm") put_rows(to_.feed_forward_, row_, value);
    if (name == "topk_idx") {
      const Tensor ids = Tensor::copy_of(value);
      const auto* first = ids->data<std::int32_t>();
      to_.chosen_.insert(to_.chosen_.end(), first, first + ids->num_elements());
    }
  }

 private:
  Calibration& to_;
  Index row_;
};

// The layer's inputs, and x_ as it leaves the layer.
void Calibration::run(const Block& b) {
  const auto& t = model_.transformer;
  const Index tokens = x_.size(0);
  const model::Mla& a = b.self_attn;
  attention_ = Tensor(DType::kF32, x_.shape());
  feed_forward_ = Tensor(DType::kF32, x_.shape());
  c_q_ = a.has_q_lora ? Tensor(DType::kF32, {tokens, a.q_a_proj.out_features}) : Tensor();
  c_kv_ = Tensor(DType::kF32, {tokens, a.kv_lora_rank});
  heads_ = Tensor(DType::kF32, {tokens, a.num_heads * a.v});
  chosen_.clear();
  for (const Window& w : windows_) {
    const Workspace::Scope scope(ctx_.workspace);
    Inputs inputs(*this, w.row);
    const Observers::Watch watch(ctx_.observers, inputs);
    model::KvCache cache(t.config, 1, w.length, DType::kF32);
    const model::Pass::Run whole{w.length, model::Form::kExpanded, cache};
    model::Pass pass(std::span(&whole, 1), layer_, *t.experts);
    pass.set_rope(ctx_, t.rotary);
    b.forward(ctx_, x_->rows(w.row, w.row + w.length), pass, layer_);
  }
  if (!b.moe) return;
  const Index k = static_cast<Index>(chosen_.size()) / tokens;
  groups_ =
      ops::group_by_expert(ConstTensorRef(chosen_.data(), DType::kI32, {tokens, k}), b.moe->gate.n_routed_experts);
}

// x_ becomes the input of an MTP layer: each position's hidden state beside the token after it.
void Calibration::begin_mtp(Index depth) {
  const auto& t = model_.transformer;
  const auto d = static_cast<std::size_t>(depth);
  const Tensor previous = head_inputs(depth == 0 ? t.norm : t.mtp[d - 1].shared_head.norm);
  const model::Mtp& module = t.mtp[d];
  std::vector<Window> shorter;
  Index rows = 0;
  for (const Window& w : windows_)
    if (w.length > 1) {
      shorter.push_back({w.first_id + 1, rows, w.length - 1});
      rows += w.length - 1;
    }
  Tensor x(DType::kF32, {rows, x_.size(1)});
  std::size_t next = 0;
  for (const Window& w : windows_) {
    if (w.length <= 1) continue;
    const Workspace::Scope scope(ctx_.workspace);
    const Window& to = shorter[next++];
    const auto ids =
        std::span(ids_).subspan(static_cast<std::size_t>(to.first_id), static_cast<std::size_t>(to.length));
    const TensorRef embedded = ops::embedding(ctx_, module.embed_tokens, ids);
    put_rows(x, to.row, module.join(ctx_, embedded, previous->rows(w.row, w.row + to.length)));
  }
  windows_ = std::move(shorter);
  x_ = std::move(x);
}

void Calibration::enter(Index layer) {
  HADAL_CHECK(layer >= layer_, "calibrate: layer {} is asked for after layer {}", layer, layer_);
  const auto main = static_cast<Index>(model_.transformer.layers.size());
  while (layer_ < layer) {
    ++layer_;
    if (layer_ >= main) begin_mtp(layer_ - main);
    run(block());
    for (const auto& shard : model_.files->shards()) shard.release();
  }
}

Tensor Calibration::head_inputs(const model::RmsNorm& norm) const {
  Tensor h(DType::kF32, x_.shape());
  for (const Window& w : windows_) {
    const Workspace::Scope scope(ctx_.workspace);
    put_rows(h, w.row, norm.forward(ctx_, x_->rows(w.row, w.row + w.length)));
  }
  return h;
}

Tensor Calibration::feed_forward_inputs(const std::string& part) const {
  const Block& b = block();
  const std::string routed = "mlp.experts.";
  const ConstTensorRef& all = feed_forward_;
  if (!part.starts_with(routed)) {
    if (!is_down(part)) return Tensor::copy_of(all);
    return inner(ctx_, b.moe ? b.moe->shared_experts : *b.mlp, all);
  }
  const auto e = static_cast<std::size_t>(std::stoll(part.substr(routed.size())));
  const auto first = groups_.token.begin();
  const std::vector<Index> tokens(first + groups_.begin[e], first + groups_.begin[e + 1]);
  if (tokens.empty()) return {};
  const Workspace::Scope scope(ctx_.workspace);
  const TensorRef rows = ops::gather_rows(ctx_, all, tokens);
  return is_down(part) ? inner(ctx_, b.moe->experts[e], rows) : Tensor::copy_of(rows);
}

Tensor Calibration::inputs(const std::string& name) {
  const auto [layer, part] = split(name);
  const auto& t = model_.transformer;
  const auto main = static_cast<Index>(t.layers.size());
  enter(layer >= 0 ? layer : main - 1);
  if (name == "lm_head.weight") return head_inputs(t.norm);
  if (layer < 0) return {};
  if (part == "shared_head.head") return head_inputs(t.mtp[static_cast<std::size_t>(layer - main)].shared_head.norm);
  if (part.starts_with("mlp.")) return feed_forward_inputs(part);
  if (part == "self_attn.q_b_proj") return Tensor::copy_of(c_q_);
  if (part == "self_attn.kv_b_proj") return Tensor::copy_of(c_kv_);
  if (part == "self_attn.o_proj") return Tensor::copy_of(heads_);
  return part.starts_with("self_attn.") ? Tensor::copy_of(attention_) : Tensor();
}

}  // namespace hadal::checkpoint
