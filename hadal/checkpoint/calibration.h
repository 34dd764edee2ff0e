// The inputs of a model's linears on a text, a layer at a time: what calibrated quantisation goes by. Kept are the
// activations of one layer for at most kMostTokens tokens, whatever the model's size; layers are asked for in ascending
// order.
#pragma once

#include <string>
#include <vector>

#include "hadal/core/context.h"
#include "hadal/stream/loader.h"

namespace hadal::checkpoint {

struct CalibrationText {
  std::vector<config::TokenId> ids;
  config::TokenId bos = 0;  // begins every window
};

class Calibration {
 public:
  static constexpr Index kWindow = 512;
  static constexpr Index kMostTokens = 16384;

  // `model` with its MTP layers, if these are asked for; the weights are those before quantisation.
  Calibration(Context& ctx, const stream::LoadedModel& model, const CalibrationText& text);

  // What the linear `name` ("model.layers.3.mlp.experts.5.up_proj.weight") is multiplied with, F32 [T, K]: all tokens,
  // or those that chose the expert. Empty if no token did, or the parameter is not a linear.
  Tensor inputs(const std::string& name);
  // Linears with the same key have the same inputs.
  static std::string key(const std::string& name);

 private:
  struct Window {
    Index first_id;  // its tokens are ids_[first_id, + length)
    Index row, length;
  };
  void enter(Index layer);
  void begin_mtp(Index depth);
  class Inputs;
  void run(const model::Block& block);
  Tensor feed_forward_inputs(const std::string& part) const;
  Tensor head_inputs(const model::RmsNorm& norm) const;
  const model::Block& block() const;

  Context& ctx_;
  const stream::LoadedModel& model_;
  std::vector<config::TokenId> ids_;  // all windows, BOS included
  std::vector<Window> windows_;
  Index layer_ = -1;  // the one whose inputs are at hand
  // x_ is the residual stream behind the layer; the others are its linears' inputs, [T, ..].
  Tensor x_, attention_, c_q_, c_kv_, heads_, feed_forward_;
  std::vector<std::int32_t> chosen_;  // experts of every token
  ops::ExpertGroups groups_;
};

}  // namespace hadal::checkpoint
