#include "hadal/checkpoint/verify.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "hadal/checkpoint/storage.h"
#include "hadal/core/error.h"
#include "hadal/core/number_formats.h"
#include "hadal/io/json.h"
#include "hadal/io/weight_index.h"
#include "hadal/model/loader.h"

namespace hadal::checkpoint {
namespace {

struct Counts {
  std::atomic<std::int64_t> not_finite{0}, nonzero{0};
};

bool is_bad(const void* data, DType dtype, Index i, bool& nonzero) {
  switch (dtype) {
    case DType::kF8E4M3: {
      const std::uint8_t code = static_cast<const e4m3*>(data)[i].bits & 0x7F;
      nonzero |= code != 0;
      return code == 0x7F;
    }
    case DType::kBF16: {
      const std::uint16_t bits = static_cast<const bf16*>(data)[i].bits & 0x7FFF;
      nonzero |= bits != 0;
      return bits >= 0x7F80;
    }
    case DType::kF16: {
      const std::uint16_t bits = static_cast<const f16*>(data)[i].bits & 0x7FFF;
      nonzero |= bits != 0;
      return bits >= 0x7C00;
    }
    case DType::kF32: {
      const float value = static_cast<const float*>(data)[i];
      nonzero |= value != 0;
      return !std::isfinite(value);
    }
    default:
      nonzero = true;
      return false;
  }
}

class Verifier {
 public:
  Verifier(Context& ctx, const std::filesystem::path& directory, const Progress& progress)
      : ctx_(ctx),
        directory_(directory),
        config_(model::load_config(directory)),
        files_(directory),
        progress_(progress) {}

  Verification run(bool quick) {
    check_parameters();
    check_extra();
    check_index();
    out_.tensors = files_.names().size();
    out_.bytes = files_.total_bytes();
    if (quick) {
      out_.notes.push_back("only headers were read (--quick)");
      return std::move(out_);
    }
    for (const auto& shard : files_.shards())
      for (const io::TensorInfo& info : shard.tensors())
        if (files_.info(info.name) == &info) check_values(shard, info);
    check_repeats();
    return std::move(out_);
  }

 private:
  void finding(std::string text) { out_.findings.push_back(std::move(text)); }

  void check_parameters() {
    for (const model::ParamSpec& spec : model::parameter_list(config_)) {
      expected_.insert(spec.name);
      expected_.insert(model::scale_name(spec.name));
      for (const std::string& fault : model::parameter_faults(spec, files_)) finding(fault);
    }
  }

  void check_extra() {
    for (const std::string& name : files_.names()) {
      if (expected_.contains(name)) continue;
      if (name.ends_with("rotary_emb.inv_freq"))
        out_.notes.push_back(name + ": is ignored, frequencies follow from the config");
      else
        finding(name + ": has no place in the config");
    }
  }

  void check_index() {
    const auto path = directory_ / io::kIndexFile;
    if (!std::filesystem::exists(path)) return;
    const io::Json index = io::read_json_file(path);
    if (!index.contains("metadata") || !index["metadata"].contains("total_size") ||
        !index["metadata"]["total_size"].is_number())
      return;
    const auto total = index["metadata"]["total_size"].get<std::uint64_t>();
    if (total != files_.total_bytes())
      finding(
          fmt::format("{}: total_size is {}, the tensors have {} bytes", io::kIndexFile, total, files_.total_bytes()));
  }

  void check_values(const io::SafetensorsFile& shard, const io::TensorInfo& info) {
    const TensorRef tensor = shard.tensor(info);
    Counts counts;
    constexpr Index kPiece = Index{16} << 20;
    const TensorRef flat = tensor.reshape({tensor.num_elements()});
    for (Index begin = 0; begin < flat.size(0); begin += kPiece) {
      const TensorRef part = flat.rows(begin, std::min(begin + kPiece, flat.size(0)));
      count(part, counts);
      shard.release();
      done_ += static_cast<std::uint64_t>(part.num_bytes());
      HADAL_CHECK(!progress_ || progress_(done_, out_.bytes), "interrupted");
    }
    if (counts.not_finite > 0)
      finding(fmt::format("{}: {} of {} values are {}", info.name, counts.not_finite.load(), tensor.num_elements(),
                          info.dtype == DType::kF8E4M3 ? "the NaN codes 7F or FF" : "NaN or infinite"));
    if (info.name.ends_with(model::scale_name("")))
      check_scale(info.name, tensor);
    else if (counts.nonzero == 0 && tensor.num_elements() > 0 && !info.name.ends_with("e_score_correction_bias"))
      finding(info.name + ": all values are zero");
  }

  void count(const TensorRef& part, Counts& counts) {
    ctx_.threads.parallel_for(part.num_elements(), 1 << 18, [&](Index begin, Index end) {
      std::int64_t bad = 0;
      bool nonzero = false;
      for (Index i = begin; i < end; ++i) bad += is_bad(part.raw(), part.dtype(), i, nonzero);
      counts.not_finite += bad;
      counts.nonzero += nonzero;
    });
  }

  void check_scale(const std::string& name, const TensorRef& stored) {
    if (stored.dtype() != DType::kF32 && stored.dtype() != DType::kBF16 && stored.dtype() != DType::kF8E8M0) return;
    const Tensor scale = model::float_scale(stored);
    Index not_positive = 0, not_power = 0;
    for (Index i = 0; i < scale->num_elements(); ++i) {
      const float s = scale->data<float>()[i];
      not_positive += !(s > 0);
      not_power += s > 0 && std::isfinite(s) && round_up_to_power_of_two(s) != s;
    }
    if (not_positive > 0) finding(fmt::format("{}: {} scales are not positive", name, not_positive));
    if (config_.fp8 && config_.fp8->ue8m0 && not_power > 0)
      finding(fmt::format("{}: {} scales are not powers of two, but scale_fmt is ue8m0", name, not_power));
  }

  void check_repeats() {
    for (Index i = config_.num_hidden_layers; i < config_.num_stored_layers(); ++i) {
      const std::string layer = "model.layers." + std::to_string(i);
      compare(layer + ".embed_tokens.weight", "model.embed_tokens.weight");
      compare(layer + ".shared_head.head.weight",
              config_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
    }
  }

  void compare(const std::string& repeat, const std::string& original) {
    const TensorRef a = files_.find(repeat), b = files_.find(original);
    if (!a || !b) return;
    const bool same = a.dtype() == b.dtype() && a.shape() == b.shape() &&
                      std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.num_bytes())) == 0;
    out_.notes.push_back(fmt::format("{}: {} {}", repeat, same ? "repeats" : "differs from", original));
    files_.shard_of(repeat)->release();
    files_.shard_of(original)->release();
  }

  Context& ctx_;
  std::filesystem::path directory_;
  model::Config config_;
  io::CheckpointFiles files_;
  const Progress& progress_;
  std::set<std::string> expected_;
  Verification out_;
  std::uint64_t done_ = 0;
};

}  // namespace

Verification verify_weights(Context& ctx, const std::filesystem::path& directory, bool quick,
                            const Progress& progress) {
  return Verifier(ctx, directory, progress).run(quick);
}

}  // namespace hadal::checkpoint
