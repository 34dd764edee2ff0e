#include "hadal/weights/published_names.h"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <string_view>

#include "hadal/core/error.h"
#include "hadal/ops/weight.h"

namespace hadal::weights {
namespace {

const std::string kModel = "model.";

// What stands before "layers.0." in the files; empty if nothing does (a base class was saved).
std::optional<std::string> find_prefix(const io::CheckpointFiles& files) {
  constexpr std::string_view kFirst = "layers.0.input_layernorm.weight";
  if (files.has_prefix(kModel + "layers.")) return std::nullopt;
  for (const std::string& name : files.names())
    if (name.ends_with(kFirst)) {
      const std::string prefix = name.substr(0, name.size() - kFirst.size());
      if (prefix.empty() || prefix.ends_with('.')) return prefix;
    }
  return std::nullopt;
}

// "model.layers..." and "lm_head..." of names that begin otherwise.
void strip_prefix(io::CheckpointFiles& files, const std::string& prefix) {
  const std::string outer = prefix.ends_with("." + kModel) ? prefix.substr(0, prefix.size() - kModel.size()) : "";
  for (const std::string& name : files.names()) {
    if (prefix.empty()) {
      if (name.starts_with("layers.") || name.starts_with("embed_tokens.") || name.starts_with("norm."))
        files.rename(name, kModel + name);
    } else if (name.starts_with(prefix)) {
      files.rename(name, kModel + name.substr(prefix.size()));
    } else if (!outer.empty() && name.starts_with(outer + "lm_head.")) {
      files.rename(name, name.substr(outer.size()));
    }
  }
}

// "model.layers.3.mlp.experts.gate_up_proj_scale_inv": a stack (or a pair) named `part` in `module`, of the tensors
// "weight_scale_inv" of its matrices.
struct Stack {
  std::string name;
  std::string module;  // with its dot
  std::string part;
  std::string tensor;
  bool experts = false;
};

constexpr std::string_view kPair = "gate_up_proj";

std::optional<Stack> parse_stack(const std::string& name) {
  constexpr std::array<std::string_view, 4> kParts = {kPair, "gate_proj", "up_proj", "down_proj"};
  constexpr std::array<std::string_view, 4> kTensors = {"", "_scale_inv", "_scale", "_packed"};
  constexpr std::string_view kExperts = ".experts.", kWeight = ".weight";
  if (!name.starts_with("model.layers.")) return std::nullopt;
  for (const std::string_view part : kParts) {
    const std::size_t at = name.find("." + std::string(part));
    if (at == name.npos) continue;
    Stack s{.name = name, .module = name.substr(0, at + 1), .part = std::string(part), .tensor = ""};
    s.experts = s.module.ends_with(kExperts);
    if (!s.experts && part != kPair) continue;
    std::string rest = name.substr(at + 1 + part.size());
    if (rest.starts_with(kWeight)) rest = rest.substr(kWeight.size());
    for (const std::string_view tensor : kTensors)
      if (rest == tensor) {
        s.tensor = "weight" + rest;
        return s;
      }
  }
  return std::nullopt;
}

class Unstacker {
 public:
  Unstacker(io::CheckpointFiles& files, const config::Config& config) : files_(files), config_(config) {}

  void take_apart(const Stack& s) {
    const Shape shape = files_.info(s.name)->shape;
    const Index rank = s.experts ? 3 : 2;
    if (shape.rank() != rank || (s.experts && shape[0] != config_.n_routed_experts)) refuse(s, shape);
    const Index rows = shape[rank - 2], columns = shape[rank - 1];
    if (s.part == kPair) check_halves(s, shape, rows);
    for (Index e = 0; e < (s.experts ? shape[0] : 1); ++e) {
      const std::string matrix = s.module + (s.experts ? std::to_string(e) + "." : "");
      const Index first = e * rows * columns;
      if (s.part != kPair) {
        add(s, matrix + s.part, first, {rows, columns});
        continue;
      }
      add(s, matrix + "gate_proj", first, {rows / 2, columns});
      add(s, matrix + "up_proj", first + rows / 2 * columns, {rows / 2, columns});
    }
    files_.hide(s.name);
  }

 private:
  void add(const Stack& s, const std::string& matrix, Index first, const Shape& shape) {
    files_.add_view(matrix + "." + s.tensor, s.name, first, shape);
  }

  [[noreturn]] void refuse(const Stack& s, const Shape& shape) const {
    fail("{}: {}: has shape {}, {} was expected", files_.directory().string(), s.name, shape.to_string(),
         s.experts ? fmt::format("a matrix for each of {} experts", config_.n_routed_experts) : "a matrix");
  }

  // The upper half is one matrix's, the lower one the other's; blocks of scales must not lie across.
  void check_halves(const Stack& s, const Shape& shape, Index rows) const {
    if (rows % 2 != 0) refuse(s, shape);
    if (s.tensor != "weight_scale_inv" && s.tensor != "weight_scale") return;
    const bool dense = !s.experts && s.module.ends_with(".mlp.");
    const Index width = dense       ? config_.intermediate_size
                        : s.experts ? config_.moe_intermediate_size
                                    : config_.moe_intermediate_size * config_.n_shared_experts;
    HADAL_CHECK(rows == 2 * width || width % ops::kBlock == 0,
                "{}: {}: its blocks of 128 rows lie across gate and up, which have {} rows each; store them apart",
                files_.directory().string(), s.name, width);
  }

  io::CheckpointFiles& files_;
  const config::Config& config_;
};

}  // namespace

std::vector<std::string> use_published_names(io::CheckpointFiles& files, const config::Config& config) {
  std::vector<std::string> notes;
  if (const auto prefix = find_prefix(files)) {
    strip_prefix(files, *prefix);
    notes.push_back(prefix->empty() ? "names without the prefix \"model.\" are read as if they had it"
                                    : fmt::format("names that begin with \"{}\" are read as \"{}\"", *prefix, kModel));
  }
  Unstacker unstacker(files, config);
  std::size_t stacks = 0;
  std::string example;
  for (const std::string& name : files.names())
    if (const auto stack = parse_stack(name)) {
      unstacker.take_apart(*stack);
      if (++stacks == 1) example = name;
    }
  if (stacks > 0)
    notes.push_back(
        fmt::format("{} stacked tensors ({}, ...) are read as the matrices they are made of", stacks, example));
  return notes;
}

}  // namespace hadal::weights
