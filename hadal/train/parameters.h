// The parameters of a model in training: master values and gradients in memory of their own, F32, or F64 where
// gradients are to be exact, bound to a Transformer's weights. In BF16 what layers read is a copy rounded to BF16, as
// an exported BF16 directory has it, and linears round their other factors, too (report 3.3: master weights in FP32).
// They lie one behind the other in the order of the layers' parameters: the gate and up projections of a network are
// one matrix then (ops/products.h). What a checkpoint repeats (the MTP layers' embedding and head, a tied head) is one
// parameter with one gradient.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/core/arena_memory.h"
#include "hadal/core/context.h"
#include "hadal/model/transformer.h"

namespace hadal::train {

using model::Transformer;

enum class Precision { kF32, kBf16, kF64 };

// "f32", "bf16", "f64".
std::optional<Precision> precision_named(std::string_view name);
Numerics numerics_of(Precision precision, Isa isa);

struct Parameter {
  std::string name;
  weights::ParamInfo info;
  Tensor value;
  Tensor grad;   // empty for the routing bias
  Tensor bound;  // what layers read, where it is not `value`: of the routing bias in F64, and of all others in BF16
  void publish(Context& ctx) const;  // brings `bound`, where it is, up to date with `value`
};

class Parameters {
 public:
  // All zeros. `model` must have the addresses that it will be used at.
  Parameters(Transformer& model, Precision precision);

  std::vector<Parameter>& all() { return all_; }
  const std::vector<Parameter>& all() const { return all_; }
  Parameter& find(const std::string& name);
  void clear_gradients(Context& ctx);
  void publish(Context& ctx) const;  // all of them: whoever writes values does it
  std::uint64_t bytes() const;

 private:
  std::unique_ptr<ArenaMemory> values_, gradients_;
  std::vector<Parameter> all_;
};

// A model directory's values, of any stored format, into `parameters`.
void read_values(Context& ctx, const std::filesystem::path& directory, Parameters& parameters);

}  // namespace hadal::train
