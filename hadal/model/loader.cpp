#include "hadal/model/loader.h"

#include <fmt/format.h>

#include <cstring>

#include "hadal/core/number_formats.h"

namespace hadal::model {
namespace {

constexpr std::size_t kMostSentences = 20;

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

std::string dtype_fault(const ParamSpec& spec, DType dtype) {
  const bool fp8_allowed = spec.info.role == ParamRole::kLinear;
  if (is_float(dtype) || (fp8_allowed && dtype == DType::kF8E4M3)) return "";
  return fmt::format("{}: dtype {} is not supported here, F32, BF16 and F16{} are", spec.name, dtype_name(dtype),
                     fp8_allowed ? " and F8_E4M3 with a scale" : "");
}

void scale_faults(const ParamSpec& spec, const io::CheckpointFiles& files, bool quantised,
                  std::vector<std::string>& faults) {
  const std::string name = scale_name(spec.name);
  const io::TensorInfo* scale = files.info(name);
  if (!quantised) {
    if (scale) faults.push_back(fmt::format("{}: there is a scale, but {} is not F8_E4M3", name, spec.name));
    return;
  }
  const Shape grid{ops::num_blocks(spec.info.shape[0]), ops::num_blocks(spec.info.shape[1])};
  if (!scale)
    faults.push_back(fmt::format("{}: is missing, {} is F8_E4M3 and needs it", name, spec.name));
  else if (scale->shape != grid)
    faults.push_back(fmt::format("{}: has shape {}, {} was expected (one scale per 128x128 block)", name,
                                 scale->shape.to_string(), grid.to_string()));
  else if (scale->dtype != DType::kF32 && scale->dtype != DType::kBF16 && scale->dtype != DType::kF8E8M0)
    faults.push_back(
        fmt::format("{}: dtype {} is not supported, F32, BF16 and F8_E8M0 are", name, dtype_name(scale->dtype)));
}

class Binder {
 public:
  Binder(const io::CheckpointFiles& files, std::vector<Tensor>& owned) : files_(files), owned_(owned) {}

  void bind(const std::string& name, Weight& weight, const ParamInfo& info) {
    // Whether experts are read at all is decided later (stream_experts).
    const TensorRef stored = info.routed_expert ? files_.find_in_place(name) : files_.find(name);
    if (!stored) return;  // optional, or reported already
    if (!is_matrix(info.role)) {
      weight.values = own(ops::float_copy(stored));
      return;
    }
    weight.values = stored;
    if (stored.dtype() != DType::kF8E4M3) return;
    const std::string scale_at = scale_name(name);
    const bool as_stored = files_.info(scale_at)->dtype == DType::kF32;
    const TensorRef scale = as_stored && info.routed_expert ? files_.find_in_place(scale_at) : files_.find(scale_at);
    weight.scale = as_stored ? scale : own(float_scale(scale));
  }

 private:
  TensorRef own(Tensor tensor) {
    owned_.push_back(std::move(tensor));
    return owned_.back();
  }

  const io::CheckpointFiles& files_;
  std::vector<Tensor>& owned_;
};

bool same_bytes(const TensorRef& a, const TensorRef& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.num_bytes())) == 0;
}

// MTP layers repeat the embedding and the head (rule 39); where they are absent or equal, the main ones serve.
void share_repeated(Transformer& t) {
  if (!t.lm_head.weight) t.lm_head.weight = t.embed_tokens;
  for (Mtp& module : t.mtp) {
    if (!module.embed_tokens || same_bytes(module.embed_tokens.values, t.embed_tokens.values))
      module.embed_tokens = t.embed_tokens;
    Weight& head = module.shared_head.head.weight;
    if (!head || same_bytes(head.values, t.lm_head.weight.values)) head = t.lm_head.weight;
  }
}

[[noreturn]] void fail_with(const std::vector<std::string>& faults, const std::filesystem::path& directory) {
  std::string text;
  for (std::size_t i = 0; i < std::min(faults.size(), kMostSentences); ++i)
    text += fmt::format("{}{}: {}", i ? "\n" : "", directory.string(), faults[i]);
  if (faults.size() > kMostSentences)
    text += fmt::format("\nand {} more; `hadal verify` lists all", faults.size() - kMostSentences);
  throw Error(text);
}

}  // namespace

Tensor float_scale(const TensorRef& stored) {
  if (stored.dtype() != DType::kF8E8M0) return ops::float_copy(stored);
  Tensor copy(DType::kF32, stored.shape());
  const auto* codes = static_cast<const std::uint8_t*>(stored.raw());
  for (Index i = 0; i < stored.num_elements(); ++i) copy->data<float>()[i] = ue8m0_to_float(codes[i]);
  return copy;
}

std::vector<std::string> parameter_faults(const ParamSpec& spec, const io::CheckpointFiles& files) {
  const io::TensorInfo* info = files.info(spec.name);
  std::vector<std::string> faults;
  if (!info) {
    if (!spec.info.optional) faults.push_back(spec.name + ": is missing");
    return faults;
  }
  if (info->shape != spec.info.shape)
    faults.push_back(fmt::format("{}: has shape {}, config.json says {}", spec.name, info->shape.to_string(),
                                 spec.info.shape.to_string()));
  const std::string wrong = dtype_fault(spec, info->dtype);
  if (!wrong.empty()) faults.push_back(wrong);
  if (is_matrix(spec.info.role)) scale_faults(spec, files, info->dtype == DType::kF8E4M3, faults);
  return faults;
}

LoadedModel load_model(const std::filesystem::path& directory, const LoadOptions& options) {
  Config config = load_config(directory);
  if (!options.mtp) config.num_nextn_predict_layers = 0;
  LoadedModel model{Transformer(config), std::make_unique<io::CheckpointFiles>(directory), {}, nullptr};
  std::vector<std::string> faults;
  model.transformer.for_each_param([&](const std::string& name, Weight&, const ParamInfo& info) {
    for (std::string& fault : parameter_faults({name, info}, *model.files)) faults.push_back(std::move(fault));
  });
  if (!faults.empty()) fail_with(faults, directory);
  Binder binder(*model.files, model.owned);
  model.transformer.for_each_param(
      [&](const std::string& name, Weight& weight, const ParamInfo& info) { binder.bind(name, weight, info); });
  share_repeated(model.transformer);
  std::uint64_t owned_bytes = 0;
  for (const Tensor& tensor : model.owned) owned_bytes += static_cast<std::uint64_t>(tensor->num_bytes());
  model.store = stream_experts(model.transformer, *model.files, owned_bytes, options.stream);
  return model;
}

}  // namespace hadal::model
