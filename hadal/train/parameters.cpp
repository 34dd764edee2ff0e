#include "hadal/train/parameters.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "hadal/checkpoint/storage.h"
#include "hadal/checkpoint/stored_reader.h"
#include "hadal/core/number_formats.h"
#include "hadal/stream/loader.h"

namespace hadal::train {
namespace {

using weights::ParamInfo;
using weights::ParamRole;
using weights::Weight;

// The parameter that an optional one repeats.
std::string original_of(const std::string& name, const ParamInfo& info, bool tied) {
  if (!info.optional) return name;
  if (info.role == ParamRole::kEmbedding || tied) return "model.embed_tokens.weight";
  return "lm_head.weight";
}

void bind(Weight& weight, const Parameter& parameter) {
  weight = Weight{.values = parameter.bound ? parameter.bound : parameter.value};
  if (weight.values.dtype() == DType::kBF16) weight.master = parameter.value;
  if (parameter.grad) weight.grad = parameter.grad;
}

void to_real(const ConstTensorRef& from, Index first, const TensorRef& to) {
  const auto* x = from.data<float>();
  if (to.dtype() == DType::kF32)
    std::copy_n(x, from.num_elements(), to.data<float>() + first);
  else
    std::copy_n(x, from.num_elements(), to.data<double>() + first);
}

}  // namespace

std::optional<Precision> precision_named(std::string_view name) {
  if (name == "f32") return Precision::kF32;
  if (name == "bf16") return Precision::kBf16;
  if (name == "f64") return Precision::kF64;
  return std::nullopt;
}

Numerics numerics_of(Precision precision, Isa isa) {
  return {.isa = precision == Precision::kF64 ? Isa::kRef : isa,
          .activations = precision == Precision::kBf16 ? Activations::kBf16 : Activations::kF32};
}

void Parameter::publish(Context& ctx) const {
  if (!bound) return;
  constexpr Index kPiece = Index{1} << 16;
  const Index count = bound->num_elements();
  ctx.threads.parallel_for((count + kPiece - 1) / kPiece, 1, [&](Index piece, Index) {
    for (Index i = piece * kPiece; i < std::min((piece + 1) * kPiece, count); ++i)
      if (value.dtype() == DType::kF64)
        bound->data<float>()[i] = static_cast<float>(value->data<double>()[i]);
      else if (bound.dtype() == DType::kBF16)
        bound->data<bf16>()[i] = float_to_bf16(value->data<float>()[i]);
      else
        bound->data<float>()[i] = bf16_to_float(float_to_bf16(value->data<float>()[i]));
  });
}

namespace {

// Of a parameter's copy for layers, or none. The router and gains are read in F32.
std::optional<DType> bound_as(const ParamInfo& info, Precision precision) {
  const bool fixed = weights::decay_group(info.role) == weights::DecayGroup::kFixed;
  if (precision == Precision::kF64) return fixed ? std::optional(DType::kF32) : std::nullopt;
  if (precision == Precision::kF32 || fixed) return std::nullopt;
  return weights::is_matrix(info.role) && info.role != ParamRole::kRouter ? DType::kBF16 : DType::kF32;
}

}  // namespace

Parameters::Parameters(Transformer& model, Precision precision) {
  const DType real = precision == Precision::kF64 ? DType::kF64 : DType::kF32;
  const bool tied = model.config.tie_word_embeddings;
  std::size_t bytes = 0;
  model.for_each_param([&](const std::string& name, Weight&, const ParamInfo& info) {
    if (original_of(name, info, tied) == name)
      bytes += ArenaMemory::rounded(static_cast<std::size_t>(info.shape.num_elements()) * dtype_bytes(real));
  });
  values_ = std::make_unique<ArenaMemory>(bytes);
  gradients_ = std::make_unique<ArenaMemory>(bytes);
  std::memset(values_->block()->raw(), 0, bytes);
  std::memset(gradients_->block()->raw(), 0, bytes);
  std::map<std::string, std::size_t> place;
  model.for_each_param([&](const std::string& name, Weight&, const ParamInfo& info) {
    if (original_of(name, info, tied) != name) return;
    place[name] = all_.size();
    const bool fixed = weights::decay_group(info.role) == weights::DecayGroup::kFixed;
    const std::optional<DType> bound = bound_as(info, precision);
    all_.push_back({name, info, Tensor(real, info.shape, *values_),
                    fixed ? Tensor() : Tensor(real, info.shape, *gradients_),
                    bound ? Tensor::zeros(*bound, info.shape) : Tensor()});
  });
  model.for_each_param([&](const std::string& name, Weight& weight, const ParamInfo& info) {
    bind(weight, all_[place.at(original_of(name, info, tied))]);
  });
}

Parameter& Parameters::find(const std::string& name) {
  const auto it = std::find_if(all_.begin(), all_.end(), [&](const Parameter& p) { return p.name == name; });
  HADAL_CHECK(it != all_.end(), "training: the model has no parameter {}", name);
  return *it;
}

void Parameters::clear_gradients(Context& ctx) {
  ctx.threads.parallel_for(static_cast<Index>(all_.size()), 1, [&](Index i, Index) {
    const Parameter& p = all_[static_cast<std::size_t>(i)];
    if (p.grad) std::memset(p.grad->raw(), 0, static_cast<std::size_t>(p.grad->num_bytes()));
  });
}

void Parameters::publish(Context& ctx) const {
  for (const Parameter& p : all_) p.publish(ctx);
}

std::uint64_t Parameters::bytes() const {
  std::uint64_t total = 0;
  for (const Parameter& p : all_)
    total += static_cast<std::uint64_t>(p.value->num_bytes() + (p.grad ? p.grad->num_bytes() : 0) +
                                        (p.bound ? p.bound->num_bytes() : 0));
  return total;
}

void read_values(Context& ctx, const std::filesystem::path& directory, Parameters& parameters) {
  const stream::LoadedModel loaded = stream::load_model(directory, {.mtp = true, .ctx = &ctx});
  for (Parameter& p : parameters.all()) {
    const auto stored = weights::find_stored({p.name, p.info}, *loaded.files);
    HADAL_CHECK(stored, "{}: has no tensor {}", directory.string(), p.name);
    const checkpoint::StoredReader reader(ctx, *loaded.files, *stored, p.info.shape);
    const Index columns = p.value->num_elements() / p.value.size(0), piece = checkpoint::rows_per_piece(columns);
    for (Index begin = 0; begin < p.value.size(0); begin += piece) {
      const Workspace::Scope scope(ctx.workspace);
      const ConstTensorRef rows = reader.read(begin, std::min(begin + piece, p.value.size(0)));
      to_real(rows, begin * columns, p.value);
    }
  }
  parameters.publish(ctx);
}

}  // namespace hadal::train
