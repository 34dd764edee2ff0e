#include "hadal/checkpoint/verify.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "hadal/checkpoint/storage.h"
#include "hadal/checkpoint/values.h"
#include "hadal/core/error.h"
#include "hadal/core/number_formats.h"
#include "hadal/io/json.h"
#include "hadal/io/weight_index.h"
#include "hadal/model/transformer.h"
#include "hadal/weights/checkpoint.h"
#include "hadal/weights/faults.h"
#include "hadal/weights/stored_param.h"

namespace hadal::checkpoint {
namespace {

// Even where config.json cannot be read, and nobody knows which parameter a tensor belongs to.
bool is_scale_name(const std::string& name) {
  return name.ends_with(".weight_scale_inv") || name.ends_with(".weight_scale") || name.ends_with(".scales");
}

// Eight codes of zero a word are the most negative values there are: no weights look like that, a hole in a file does.
bool is_packed_name(const std::string& name) {
  return name.ends_with(".weight_packed") || name.ends_with(".qweight");
}

class Verifier {
 public:
  Verifier(Context& ctx, const io::CheckpointFiles& files, const Progress& progress, Verification& out)
      : ctx_(ctx), files_(files), progress_(progress), out_(out) {}

  void check_tensors(const config::Config& config) {
    const auto judged =
        weights::tensor_faults(model::parameter_list(config), config, files_, config.num_stored_layers());
    for (const auto* sentences : {&judged.faults, &judged.unused})
      for (const std::string& sentence : *sentences) out_.add(Check::kTensors, sentence);
    for (const auto* sentences : {&judged.notes, &judged.foreign})
      out_.notes.insert(out_.notes.end(), sentences->begin(), sentences->end());
  }

  void check_index() {
    const std::vector<std::string> unlisted = files_.not_in_index();
    if (!unlisted.empty())
      out_.add(Check::kFiles, fmt::format("{}: does not name {} tensors of the shards, {} for one; they are not read",
                                          io::kIndexFile, unlisted.size(), unlisted.front()));
    const auto path = files_.directory() / io::kIndexFile;
    if (!std::filesystem::exists(path)) return;
    const io::Json index = io::read_json_file(path);
    if (!index.contains("metadata") || !index["metadata"].contains("total_size") ||
        !index["metadata"]["total_size"].is_number_unsigned())
      return;
    const auto total = index["metadata"]["total_size"].get<std::uint64_t>();
    if (total != files_.total_bytes())
      out_.add(Check::kFiles, fmt::format("{}: total_size is {}, the tensors have {} bytes", io::kIndexFile, total,
                                          files_.total_bytes()));
  }

  void check_values(bool scales_are_powers_of_two) {
    for (const auto& [shard, info] : files_.in_file_order()) check_values(*shard, *info, scales_are_powers_of_two);
  }

  // MTP layers store the embedding and the head again (rule 39).
  void check_repeats(const config::Config& config) {
    for (Index i = config.num_hidden_layers; i < config.num_stored_layers(); ++i) {
      const std::string layer = "model.layers." + std::to_string(i);
      compare(layer + ".embed_tokens.weight", "model.embed_tokens.weight");
      compare(layer + ".shared_head.head.weight",
              config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
    }
  }

 private:
  void check_values(const io::SafetensorsFile& shard, const io::TensorInfo& info, bool powers_of_two) {
    const ConstTensorRef tensor = shard.tensor(info);
    ValueCounts counts;
    constexpr Index kPiece = Index{16} << 20;
    const ConstTensorRef flat = tensor.reshape({tensor.num_elements()});
    for (Index begin = 0; begin < flat.size(0); begin += kPiece) {
      const ConstTensorRef part = flat.rows(begin, std::min(begin + kPiece, flat.size(0)));
      const ValueCounts more = count_values(ctx_, part);
      if (counts.first_bad < 0 && more.first_bad >= 0) counts.first_bad = begin + more.first_bad;
      counts.not_finite += more.not_finite;
      counts.nonzero |= more.nonzero;
      shard.release();
      done_ += static_cast<std::uint64_t>(part.num_bytes());
      if (progress_ && !progress_(done_, files_.total_bytes())) throw Interrupted("interrupted");
    }
    const bool is_scale = is_scale_name(info.name);
    if (counts.not_finite > 0)
      out_.add(is_scale ? Check::kScales : Check::kValues,
               fmt::format("{}: {} of {} values are {}, the first in {}", info.name, counts.not_finite,
                           tensor.num_elements(),
                           info.dtype == DType::kF8E4M3 ? "the NaN codes 7F or FF" : "NaN or infinite",
                           place_of(counts.first_bad, tensor.shape())));
    if (is_scale)
      check_scale(info.name, tensor, powers_of_two);
    else if (!counts.nonzero && is_packed_name(info.name))
      out_.add(Check::kValues, info.name + ": all codes are zero, the data is missing");
    else if (!counts.nonzero && tensor.num_elements() > 0 && !info.name.ends_with("e_score_correction_bias"))
      out_.notes.push_back(info.name + ": all values are zero");
  }

  void check_scale(const std::string& name, const ConstTensorRef& stored, bool powers_of_two) {
    if (stored.dtype() != DType::kF32 && stored.dtype() != DType::kBF16 && stored.dtype() != DType::kF16 &&
        stored.dtype() != DType::kF8E8M0)
      return;
    const Tensor scale = weights::float_scale(stored);
    Index not_positive = 0, not_power = 0;
    for (Index i = 0; i < scale->num_elements(); ++i) {
      const float s = scale->data<float>()[i];
      not_positive += !(s > 0);
      not_power += s > 0 && std::isfinite(s) && round_up_to_power_of_two(s) != s;
    }
    if (not_positive > 0) out_.add(Check::kScales, fmt::format("{}: {} scales are not positive", name, not_positive));
    if (powers_of_two && not_power > 0)
      out_.add(Check::kScales,
               fmt::format("{}: {} scales are not powers of two, but scale_fmt is ue8m0", name, not_power));
  }

  void compare(const std::string& repeat, const std::string& original) {
    const ConstTensorRef a = files_.find(repeat), b = files_.find(original);
    if (!a || !b) return;
    const bool same = a.dtype() == b.dtype() && a.shape() == b.shape() &&
                      std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.num_bytes())) == 0;
    if (!same)
      out_.add(Check::kMtpCopies, fmt::format("{}: differs from {}, which it should repeat", repeat, original));
    files_.shard_of(repeat)->release();
    files_.shard_of(original)->release();
  }

  Context& ctx_;
  const io::CheckpointFiles& files_;
  const Progress& progress_;
  Verification& out_;
  std::uint64_t done_ = 0;
};

void check_readable(const std::filesystem::path& directory) {
  std::error_code status;
  HADAL_CHECK(std::filesystem::exists(directory, status), "{}: there is no such model directory", directory.string());
  HADAL_CHECK(std::filesystem::is_directory(directory, status), "{}: is not a directory; give the model's directory",
              directory.string());
  std::filesystem::directory_iterator(directory, status);
  HADAL_CHECK(!status, "{}: cannot be read: {}", directory.string(), status.message());
}

}  // namespace

std::string_view check_name(Check check) {
  static constexpr std::string_view kNames[] = {"config",     "files",     "tensors",     "scales",       "values",
                                                "MTP copies", "tokenizer", "special ids", "chat template"};
  return kNames[static_cast<std::size_t>(check)];
}

void Verification::add_lines(Check check, std::string_view lines) {
  while (!lines.empty()) {
    const std::size_t end = std::min(lines.find('\n'), lines.size());
    add(check, std::string(lines.substr(0, end)));
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
}

Verification verify_weights(Context& ctx, const std::filesystem::path& directory, bool quick,
                            const Progress& progress) {
  check_readable(directory);
  Verification out;
  std::optional<io::CheckpointFiles> files;
  out.attempt(Check::kConfig, [&] { out.config = config::load_config(directory); });
  out.attempt(Check::kFiles, [&] { files.emplace(directory); });
  if (!files) return out;
  Verifier verifier(ctx, *files, progress, out);
  out.tensors = files->names().size();
  out.bytes = files->total_bytes();
  out.attempt(Check::kFiles, [&] { verifier.check_index(); });
  if (out.config)
    out.attempt(Check::kTensors, [&] {
      out.notes = weights::reconcile(*out.config, *files);
      verifier.check_tensors(*out.config);
    });
  if (quick) {
    out.notes.push_back("only headers were read (--quick)");
    return out;
  }
  const bool ue8m0 = out.config && out.config->ue8m0();
  out.attempt(Check::kValues, [&] { verifier.check_values(ue8m0); });
  out.done.insert(Check::kScales);
  if (out.config) out.attempt(Check::kMtpCopies, [&] { verifier.check_repeats(*out.config); });
  return out;
}

}  // namespace hadal::checkpoint
