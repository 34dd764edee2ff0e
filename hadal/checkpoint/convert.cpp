#include "hadal/checkpoint/convert.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "hadal/core/error.h"
#include "hadal/core/log.h"
#include "hadal/core/number_formats.h"
#include "hadal/io/checkpoint_files.h"
#include "hadal/io/json.h"
#include "hadal/io/weight_index.h"
#include "hadal/model/loader.h"
#include "hadal/ops/elementwise.h"
#include "hadal/ops/quantize.h"

namespace hadal::checkpoint {
namespace {

using Entry = io::SafetensorsWriter::Entry;

constexpr std::uintmax_t kLargestSideFile = std::uintmax_t{64} << 20;

// What becomes of one tensor of the source.
struct Job {
  std::string name;
  std::optional<model::ParamSpec> spec;  // none: a tensor that the config has no place for, copied as it is
  bool requantise = false;
  std::vector<Entry> entries;
};

bool all_powers_of_two(const TensorRef& scale) {
  for (Index i = 0; i < scale.num_elements(); ++i) {
    const float s = scale.data<float>()[i];
    if (round_up_to_power_of_two(s) != s) return false;
  }
  return true;
}

class Converter {
 public:
  Converter(Context& ctx, const io::CheckpointFiles& files, const model::Config& config, const ConvertOptions& options,
            const Progress& progress)
      : ctx_(ctx), files_(files), options_(options), progress_(progress) {
    for (model::ParamSpec& spec : model::parameter_list(config)) specs_.emplace(spec.name, spec);
    check_source();
    make_jobs();
  }

  ShardPlan plan() const {
    std::vector<std::vector<Entry>> groups;
    for (const Job& job : jobs_) groups.push_back(job.entries);
    return plan_shards(groups, options_.shard_bytes);
  }

  void write(const ShardPlan& plan, const ModelDirectory& directory) {
    total_ = plan.total_bytes;
    std::size_t next = 0;
    for (std::size_t s = 0; s < plan.shards.size(); ++s) {
      const std::string name = shard_name(s, plan.shards.size());
      std::size_t entries = plan.shards[s].size();
      if (directory.has(name)) {
        for (; entries > 0; ++next) entries -= jobs_[next].entries.size();
        done_ += std::filesystem::file_size(directory.working() / name);
        continue;
      }
      io::SafetensorsWriter writer(directory.working() / name, plan.shards[s], {{"format", "pt"}});
      for (; entries > 0; ++next) {
        convert(jobs_[next], writer);
        entries -= jobs_[next].entries.size();
      }
      writer.finish();
    }
  }

 private:
  void check_source() const {
    std::string faults;
    for (const auto& [name, spec] : specs_)
      for (const std::string& fault : model::parameter_faults(spec, files_))
        faults += fmt::format("{}{}: {}", faults.empty() ? "" : "\n", files_.directory().string(), fault);
    if (!faults.empty()) throw Error(faults);
  }

  void make_jobs() {
    for (const io::SafetensorsFile& shard : files_.shards())
      for (const io::TensorInfo& info : shard.tensors()) {
        if (files_.info(info.name) != &info || info.name.ends_with("rotary_emb.inv_freq") || is_scale(info.name))
          continue;
        jobs_.push_back(job_for(info));
      }
  }

  bool is_scale(const std::string& name) const {
    const std::string suffix = model::scale_name("");
    return name.ends_with(suffix) && specs_.contains(name.substr(0, name.size() - suffix.size()));
  }

  Job job_for(const io::TensorInfo& info) const {
    Job job{info.name, std::nullopt, false, {}};
    const auto spec = specs_.find(info.name);
    if (spec == specs_.end()) {
      log_warning("{}: has no place in the config, it is copied as it is", info.name);
      job.entries = {{info.name, info.dtype, info.shape}};
      return job;
    }
    job.spec = spec->second;
    const DType dtype = stored_dtype(spec->second.info.role, options_.target);
    job.entries = {{info.name, dtype, info.shape}};
    if (dtype != DType::kF8E4M3) return job;
    job.entries.push_back(
        {model::scale_name(info.name), DType::kF32, {ops::num_blocks(info.shape[0]), ops::num_blocks(info.shape[1])}});
    job.requantise = info.dtype != DType::kF8E4M3 || (options_.ue8m0 && !all_powers_of_two(scale_of(info.name)));
    return job;
  }

  Tensor scale_of(const std::string& name) const {
    const std::string scale = model::scale_name(name);
    Tensor copy = model::float_scale(files_.find(scale));
    files_.shard_of(scale)->release();
    return copy;
  }

  void emit(const TensorRef& bytes, io::SafetensorsWriter& writer) {
    writer.write(std::span(static_cast<const std::byte*>(bytes.raw()), static_cast<std::size_t>(bytes.num_bytes())));
    done_ += static_cast<std::uint64_t>(bytes.num_bytes());
    if (progress_ && !progress_(done_, total_)) throw Interrupted("interrupted; run the same command again to go on");
  }

  // A piece of the source as float32, in ctx.workspace.
  TensorRef decode(const TensorRef& part, const Tensor& scale, Index first_row) {
    const TensorRef out = ctx_.workspace.floats(part.shape());
    if (part.dtype() == DType::kF8E4M3)
      ops::dequantize_blocks(ctx_, {.values = part, .scale = scale, .first_row = first_row}, out);
    else if (part.rank() == 1)
      ops::to_float(ctx_, part.reshape({1, part.size(0)}), out.reshape({1, out.size(0)}));
    else
      ops::to_float(ctx_, part, out);
    return out;
  }

  void convert(const Job& job, io::SafetensorsWriter& writer) {
    const TensorRef source = files_.find(job.name);
    const DType dtype = job.entries[0].dtype;
    const bool copy = source.dtype() == dtype && !job.requantise;
    const Tensor scale = source.dtype() == DType::kF8E4M3 && job.spec ? scale_of(job.name) : Tensor();
    PieceEncoder encoder(ctx_, dtype, options_.ue8m0);
    const Index rows = source.rank() > 0 ? source.size(0) : 1;
    const Index step = source.rank() > 1 ? rows_per_piece(source.num_elements() / std::max<Index>(rows, 1)) : rows;
    for (Index row = 0; row < rows; row += std::max<Index>(step, 1)) {
      const Workspace::Scope scope(ctx_.workspace);
      const TensorRef part = source.rank() > 0 ? source.rows(row, std::min(row + step, rows)) : source;
      emit(copy ? part : encoder.encode(decode(part, scale, row)), writer);
      files_.shard_of(job.name)->release();
    }
    if (dtype != DType::kF8E4M3 || job.entries.size() < 2) return;
    if (copy)
      emit(scale, writer);
    else
      emit(TensorRef(const_cast<float*>(encoder.scales().data()), DType::kF32,
                     {static_cast<Index>(encoder.scales().size())}),
           writer);
  }

  Context& ctx_;
  const io::CheckpointFiles& files_;
  const ConvertOptions& options_;
  const Progress& progress_;
  std::map<std::string, model::ParamSpec> specs_;
  std::vector<Job> jobs_;
  std::uint64_t done_ = 0, total_ = 0;
};

void check_places(const std::filesystem::path& source, const std::filesystem::path& destination) {
  std::error_code status;
  const auto from = std::filesystem::weakly_canonical(source, status),
             to = std::filesystem::weakly_canonical(destination, status);
  HADAL_CHECK(from != to, "{}: is source and destination; name another destination", source.string());
  const auto relative = to.lexically_relative(from);
  HADAL_CHECK(relative.empty() || *relative.begin() == "..",
              "{}: lies inside the source {}; name a destination outside", destination.string(), source.string());
}

std::string fingerprint(const io::CheckpointFiles& files, const ConvertOptions& o) {
  std::string text =
      fmt::format("convert {} target {} ue8m0 {} shards {}\n", std::filesystem::canonical(files.directory()).string(),
                  static_cast<int>(o.target), o.ue8m0, o.shard_bytes);
  for (const io::SafetensorsFile& shard : files.shards())
    text += fmt::format("{} {} {}\n", shard.path().filename().string(), std::filesystem::file_size(shard.path()),
                        std::filesystem::last_write_time(shard.path()).time_since_epoch().count());
  return text;
}

// Tokenizer, templates, generation settings, licences: everything small that is not weights.
void copy_side_files(const std::filesystem::path& source, const ModelDirectory& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(source)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name.starts_with(".") || name.ends_with(".safetensors") || name == "config.json" ||
        name == io::kIndexFile)
      continue;
    if (entry.file_size() > kLargestSideFile) continue;
    directory.copy(entry.path());
  }
}

}  // namespace

void convert_model(Context& ctx, const std::filesystem::path& source, const std::filesystem::path& destination,
                   const ConvertOptions& options, const Progress& progress) {
  const auto config_file = source / "config.json";
  const model::Config config = model::load_config(source);
  io::Json json = io::read_json_file(config_file);
  check_places(source, destination);
  const io::CheckpointFiles files(source);
  ModelDirectory directory(destination, fingerprint(files, options));
  Converter converter(ctx, files, config, options, progress);
  const ShardPlan plan = converter.plan();
  converter.write(plan, directory);
  const bool keeps_ue8m0 = options.target == Target::kFp8 && config.fp8 && config.fp8->ue8m0;
  set_storage(json, options.target, options.ue8m0 || keeps_ue8m0);
  directory.write_text("config.json", json.dump(2) + "\n");
  copy_side_files(source, directory);
  directory.finish(plan);
}

}  // namespace hadal::checkpoint
