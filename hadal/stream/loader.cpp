#include "hadal/stream/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "hadal/core/log.h"
#include "hadal/io/free_memory.h"
#include "hadal/stream/device_weights.h"
#include "hadal/stream/row_groups.h"
#include "hadal/weights/checkpoint.h"
#include "hadal/weights/faults.h"
#include "hadal/weights/stored_param.h"

namespace hadal::stream {

using config::Config;
using config::WeightFormat;
using model::Mtp;
using model::Transformer;
using weights::awq_matrix;
using weights::find_stored;
using weights::is_matrix;
using weights::ParamInfo;
using weights::reference_stored;
using weights::StoredParam;
using weights::Weight;
namespace {

class Binder {
 public:
  Binder(const io::CheckpointFiles& files, std::vector<Tensor>& owned, ThreadPool* threads)
      : files_(files), owned_(owned), threads_(threads) {}

  void bind(const std::string& name, Weight& weight, const ParamInfo& info) {
    const auto stored = find_stored({name, info}, files_);
    if (!stored) return;  // optional, or reported already
    if (!is_matrix(info.role))
      bind_vector(name, *stored, weight);
    else if (stored->scheme.format == WeightFormat::kAwq)
      weight = repack(*stored, info.shape);
    else
      // Whether experts are read at all is decided later (stream_experts).
      weight = reference_stored(*stored, files_, owned_, info.routed_expert);
    if (stored->scheme.format == WeightFormat::kInt8Packed) release(*stored);
    if (weight.values.dtype() == DType::kF8E4M3) {
      const Shape sets{ops::num_blocks(weight.num_rows(), ops::kCleanRows)};
      weight.clean = owned_.emplace_back(Tensor::zeros(DType::kU8, sets))->data<std::uint8_t>();
    }
  }

  // Of vectors that are no finite numbers, in the order of binding.
  const std::vector<std::string>& faults() const { return faults_; }

 private:
  void bind_vector(const std::string& name, const StoredParam& stored, Weight& weight) {
    weight.values = owned_.emplace_back(ops::float_copy(files_.find(stored.values)));
    if (std::string fault = weights::vector_fault(name, weight.values); !fault.empty())
      faults_.push_back(std::move(fault));
  }

  // The stored form is not needed again: without this the model would be resident twice.
  void release(const StoredParam& stored) const {
    for (const std::string& name : stored.tensors()) files_.shard_of(name)->release();
  }

  Weight repack(const StoredParam& stored, const Shape& shape) {
    const ops::AwqMatrix from = awq_matrix(stored, files_);
    const Shape grid{shape[0], from.scales.size(0)};
    const TensorRef codes = owned_.emplace_back(DType::kI32, Shape{shape[0], ops::num_blocks(shape[1], 8)}),
                    scale = owned_.emplace_back(from.scales.dtype(), grid),
                    zero = owned_.emplace_back(DType::kU8, grid);
    ops::repack_awq(from, 0, shape[0], codes, zero, scale, threads_);
    release(stored);
    return {.values = codes,
            .scale = scale,
            .zero = zero,
            .scale_rows = 1,
            .scale_columns = stored.scheme.group_size,
            .packed_columns = shape[1]};
  }

  const io::CheckpointFiles& files_;
  std::vector<Tensor>& owned_;
  ThreadPool* threads_;
  std::vector<std::string> faults_;
};

bool same_bytes(const ConstTensorRef& a, const ConstTensorRef& b) {
  if (!a || !b) return !a && !b;
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.num_bytes())) == 0;
}

bool same_bytes(const Weight& a, const Weight& b) {
  return same_bytes(a.values, b.values) && same_bytes(a.scale, b.scale) && same_bytes(a.zero, b.zero);
}

// MTP layers repeat the embedding and the head (rule 39); where they are absent or equal, the main ones serve.
void share_repeated(Transformer& t) {
  if (!t.lm_head.weight) t.lm_head.weight = t.embed_tokens;
  for (Mtp& module : t.mtp) {
    if (!module.embed_tokens || same_bytes(module.embed_tokens, t.embed_tokens)) module.embed_tokens = t.embed_tokens;
    HADAL_CHECK(
        module.embed_tokens,
        "part: the checkpoint does not repeat model.embed_tokens for its MTP layers, so that they need the part "
        "that holds layer 0");
    Weight& head = module.shared_head.head.weight;
    if (!head || same_bytes(head, t.lm_head.weight)) head = t.lm_head.weight;
  }
}

std::map<std::string, ParamInfo> whole_parameters(const Config& config) {
  std::map<std::string, ParamInfo> all;
  for (const weights::ParamSpec& spec : model::parameter_list(config)) all.emplace(spec.name, spec.info);
  return all;
}

void say_once(const std::vector<std::string>& notes, const std::filesystem::path& directory, LogLevel level) {
  for (const std::string& note : notes) log_message(level, fmt::format("{}: {}", directory.string(), note));
}

// Nobody says how much memory a device has.
constexpr std::uint64_t kDeviceShareForPrompts = std::uint64_t{1} << 30;

// Experts of a streamed model may take all the rest, so that it is worth more there.
std::uint64_t share_for_prompts(const io::CheckpointFiles& files, std::uint64_t memory, bool streamed) {
  if (streamed) return memory / 8;
  return (memory - std::min(memory, files.total_bytes())) / 4;
}

}  // namespace

LoadedModel load_model(const std::filesystem::path& directory, const LoadOptions& options) {
  weights::Checkpoint checkpoint = weights::open_checkpoint(directory);
  const auto judged =
      weights::tensor_faults(model::parameter_list(checkpoint.config), checkpoint.config, *checkpoint.files,
                             options.mtp ? checkpoint.config.num_stored_layers() : checkpoint.config.num_hidden_layers);
  if (!judged.faults.empty()) weights::refuse(judged.faults, directory);
  say_once(checkpoint.notes, directory, options.mtp && options.mtp_expected ? LogLevel::kWarning : LogLevel::kInfo);
  for (const auto* notes : {&judged.unused, &judged.notes, &judged.foreign})
    say_once(*notes, directory, LogLevel::kInfo);
  Config config = checkpoint.config;
  if (!options.mtp) config.num_nextn_predict_layers = 0;
  const model::Part part = options.part.value_or(model::whole(config));
  LoadedModel model{Transformer(config, part), std::move(checkpoint.files), {}};
  const std::map<std::string, ParamInfo> published = whole_parameters(config);
  Binder binder(*model.files, model.owned, options.ctx ? &options.ctx->threads : nullptr);
  model.transformer.for_each_param([&](const std::string& name, Weight& weight, const ParamInfo& info) {
    binder.bind(name, weight, published.at(name));
    // A matrix that a shard holds in part.
    if (const Index rows = info.shape[0]; weight && weight.num_rows() != rows)
      weight = weight.rows(part.shard * rows, (part.shard + 1) * rows);
  });
  if (!binder.faults().empty()) weights::refuse(binder.faults(), directory);
  share_repeated(model.transformer);
  std::uint64_t owned_bytes = 0;
  for (const Tensor& tensor : model.owned) owned_bytes += static_cast<std::uint64_t>(tensor->num_bytes());
  Streaming streaming = stream_experts(model.transformer, *model.files, owned_bytes, options.stream,
                                       options.rearrange ? options.ctx : nullptr);
  model.store = std::move(streaming.store);
  model.streamed = std::move(streaming.experts);
  if (options.ctx && !options.ctx->device.is_host()) {
    HADAL_CHECK(!model.store, "memory: routed experts cannot come from disk on {} yet; give more --memory",
                device_name(options.ctx->device));
    move_to_device(*options.ctx, model.transformer, model.owned);
  }
  std::uint64_t memory = options.stream.memory > 0 ? options.stream.memory : io::free_memory();
  model.kept_bytes = options.ctx && !options.ctx->device.is_host()
                         ? kDeviceShareForPrompts
                         : share_for_prompts(*model.files, memory, model.store != nullptr);
  if (options.ctx && options.rearrange) {
    // Of a streamed model the copies take the place of mapped pages that the budget counts.
    if (!model.store) memory -= std::min(memory, owned_bytes);
    group_rows(*options.ctx, model.transformer, *model.files, memory, model.store != nullptr, model.owned);
  }
  return model;
}

}  // namespace hadal::stream
