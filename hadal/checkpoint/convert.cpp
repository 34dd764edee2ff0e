#include "hadal/checkpoint/convert.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

#include "hadal/checkpoint/stored_reader.h"
#include "hadal/checkpoint/values.h"
#include "hadal/core/error.h"
#include "hadal/core/log.h"
#include "hadal/core/number_formats.h"
#include "hadal/io/checkpoint_files.h"
#include "hadal/io/json.h"
#include "hadal/io/weight_index.h"
#include "hadal/model/transformer.h"
#include "hadal/weights/checkpoint.h"
#include "hadal/weights/faults.h"
#include "hadal/weights/stored_param.h"

namespace hadal::checkpoint {
namespace {

using Entry = io::SafetensorsWriter::Entry;

constexpr std::uintmax_t kLargestSideFile = std::uintmax_t{64} << 20;

// A weight that no conversion can mend: what was written of it is of no use, whoever tries again.
class BadValue : public Error {
 public:
  using Error::Error;
};

// What becomes of one parameter, or of a tensor that the config has no place for.
struct Job {
  std::string name;                            // of the parameter or the tensor
  std::optional<weights::StoredParam> source;  // none: copied as it is
  std::size_t order = SIZE_MAX;                // the parameter's place in the model
  Encoding encoding = {{}, DType::kF32};
  bool copy = false;  // stored so already
  std::vector<Entry> entries = {};
};

bool all_powers_of_two(const ConstTensorRef& scale) {
  for (Index i = 0; i < scale.num_elements(); ++i) {
    const float s = scale.data<float>()[i];
    if (round_up_to_power_of_two(s) != s) return false;
  }
  return true;
}

class Converter {
 public:
  Converter(Context& ctx, const io::CheckpointFiles& files, const config::Config& config, const ConvertOptions& options,
            const Progress& progress)
      : ctx_(ctx), files_(files), config_(config), options_(options), progress_(progress) {
    find_parameters();
    make_jobs();
  }

  void prepare_calibration() {
    if (!options_.calibration) return;
    HADAL_CHECK(options_.storage.target == Target::kInt4, "calibrate: a calibration goes with int4");
    model_.emplace(stream::load_model(files_.directory(), {.mtp = true, .ctx = &ctx_}));
    calibration_.emplace(ctx_, *model_, *options_.calibration);
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
  struct Found {
    weights::ParamSpec spec;
    weights::StoredParam stored;
    std::size_t order;
  };

  void find_parameters() {
    const std::vector<weights::ParamSpec> params = model::parameter_list(config_);
    const auto judged = weights::tensor_faults(params, config_, files_, config_.num_stored_layers());
    if (!judged.faults.empty()) weights::refuse(judged.faults, files_.directory());
    for (const std::string& note : judged.notes) log_info("{}", note);
    for (const std::string& note : judged.unused) log_warning("{}; it is left out", note);
    for (const std::string& note : judged.foreign) log_warning("{}; it is copied as it is", note);
    for (const weights::ParamSpec& spec : params) {
      const auto stored = weights::find_stored(spec, files_);
      if (stored) by_values_.emplace(stored->values, Found{spec, *stored, by_values_.size()});
    }
  }

  // In the order of the source. Of what the model does not know, only what belongs to none of its parts comes along:
  // the rest is about how the source is stored.
  void make_jobs() {
    for (const auto& [shard, info] : files_.in_file_order()) {
      const auto found = by_values_.find(info->name);
      if (found != by_values_.end())
        jobs_.push_back(job_for(found->second));
      else if (weights::is_foreign(info->name))
        jobs_.push_back(
            {.name = info->name, .source = std::nullopt, .entries = {{info->name, info->dtype, info->shape}}});
    }
    // A calibration walks through the layers once.
    if (options_.calibration)
      std::stable_sort(jobs_.begin(), jobs_.end(), [](const Job& a, const Job& b) { return a.order < b.order; });
  }

  // Group sizes that give as many groups are one and the same.
  static bool same_storage(const Found& found, const Encoding& encoding) {
    const config::WeightScheme &from = found.stored.scheme, &to = encoding.scheme;
    if (from.format != to.format || to.group_size == 0) return from == to;
    const Index columns = found.spec.info.shape[1];
    return ops::num_blocks(columns, from.group_size) == ops::num_blocks(columns, to.group_size);
  }

  Job job_for(const Found& found) const {
    Job job{.name = found.spec.name, .source = found.stored, .order = found.order};
    job.encoding = encoding_of(found.spec.info, config_, options_.storage);
    job.entries = entries_of(found.spec, job.encoding);
    const io::TensorInfo& values = *files_.info(found.stored.values);
    job.copy = same_storage(found, job.encoding) && values.dtype == job.encoding.dtype;
    if (!job.copy) return job;
    if (found.stored.scheme.format == config::WeightFormat::kFp8Blocks) {
      job.copy = !options_.storage.ue8m0 || all_powers_of_two(float_scale(found.stored));
      return job;
    }
    const std::vector<std::string> tensors = found.stored.tensors();
    for (std::size_t i = 1; i < tensors.size(); ++i) {
      job.entries[i].dtype = files_.info(tensors[i])->dtype;
      job.entries[i].shape = files_.info(tensors[i])->shape;
    }
    return job;
  }

  Tensor float_scale(const weights::StoredParam& stored) const {
    Tensor copy = weights::float_scale(files_.find(stored.scale));
    files_.shard_of(stored.scale)->release();
    return copy;
  }

  void emit(std::span<const std::byte> bytes, io::SafetensorsWriter& writer) {
    writer.write(bytes);
    done_ += bytes.size();
    if (progress_ && !progress_(done_, total_)) throw Interrupted("interrupted; run the same command again to go on");
  }
  void emit(const ConstTensorRef& t, io::SafetensorsWriter& writer) {
    emit(std::span(static_cast<const std::byte*>(t.raw()), static_cast<std::size_t>(t.num_bytes())), writer);
  }

  // Calls body(first, end) for the rows of a tensor, a piece at a time, and lets go of what was read.
  template <class Body>
  void for_each_piece(const Shape& shape, const std::string& tensor, const Body& body) {
    const Index rows = shape.rank() > 0 ? shape[0] : 1;
    const Index step = shape.rank() > 1 ? rows_per_piece(shape.num_elements() / std::max<Index>(rows, 1)) : rows;
    for (Index row = 0; row < rows; row += std::max<Index>(step, 1)) {
      const Workspace::Scope scope(ctx_.workspace);
      body(row, std::min(row + step, rows));
      files_.shard_of(tensor)->release();
    }
  }

  // `piece` begins at row `row` of a parameter's values or scales.
  void check_finite(const std::string& name, const ConstTensorRef& piece, Index row) const {
    const ValueCounts counts = count_values(ctx_, piece);
    if (counts.not_finite == 0) return;
    const Shape& shape = piece.shape();
    const Index columns = shape.rank() == 2 ? shape[1] : 1;
    throw BadValue(
        fmt::format("{}: {}: the value in {} is NaN or infinite; a quantised neighbour of it would be lost, "
                    "mend the weights first (`hadal verify` lists all)",
                    files_.directory().string(), name, place_of(row * columns + counts.first_bad, shape)));
  }

  // The largest float32 that BF16 has a number for, rounded to nearest.
  void check_bf16(const std::string& name, const ConstTensorRef& piece, Index row) const {
    constexpr float kTooLarge = 0x1.FFp127f;
    const float* values = piece.data<float>();
    const auto end = values + piece.num_elements();
    const auto large = std::find_if(values, end, [](float v) { return std::abs(v) >= kTooLarge; });
    if (large == end) return;
    const Index columns = piece.rank() == 2 ? piece.size(1) : 1;
    throw BadValue(fmt::format("{}: {}: the value in {} is {}, too large for BF16; convert with --to f32",
                               files_.directory().string(), name,
                               place_of(row * columns + (large - values), piece.shape()), *large));
  }

  void copy(const std::string& tensor, io::SafetensorsWriter& writer, bool checked = true) {
    const ConstTensorRef source = files_.find(tensor);
    for_each_piece(source.shape(), tensor, [&](Index row, Index end) {
      const ConstTensorRef piece = source.rank() > 0 ? source.rows(row, end) : source;
      if (checked) check_finite(tensor, piece, row);
      emit(piece, writer);
    });
  }

  void convert(const Job& job, io::SafetensorsWriter& writer) {
    if (!job.source) return copy(job.name, writer, false);
    if (!job.copy) return encode(job, writer);
    copy(job.source->values, writer);
    if (job.source->scheme.format == config::WeightFormat::kFp8Blocks) {
      const Tensor scale = float_scale(*job.source);
      check_finite(job.source->scale, scale, 0);
      return emit(scale, writer);
    }
    const std::vector<std::string> tensors = job.source->tensors();
    for (std::size_t i = 1; i < tensors.size(); ++i) copy(tensors[i], writer);
  }

  void encode(const Job& job, io::SafetensorsWriter& writer) {
    const StoredReader reader(ctx_, files_, *job.source, by_values_.at(job.source->values).spec.info.shape);
    const bool calibrated = calibration_ && job.encoding.scheme.format == config::WeightFormat::kInt4Packed;
    PieceEncoder encoder(ctx_, job.encoding, options_.storage.ue8m0,
                         calibrated ? &gptq_for(job.name, reader.shape()[1]) : nullptr);
    for_each_piece(reader.shape(), job.source->values, [&](Index row, Index end) {
      const ConstTensorRef piece = reader.read(row, end);
      check_finite(job.name, piece, row);
      if (job.encoding.dtype == DType::kBF16) check_bf16(job.name, piece, row);
      emit(encoder.encode(piece), writer);
    });
    if (!encoder.companions().empty()) emit(encoder.companions(), writer);
  }

  // Of the inputs last seen: gate_proj and up_proj share theirs.
  const Gptq& gptq_for(const std::string& name, Index columns) {
    const std::string key = Calibration::key(name);
    if (key != gptq_key_) gptq_.emplace(ctx_, calibration_->inputs(name), columns);
    gptq_key_ = key;
    return *gptq_;
  }

  Context& ctx_;
  const io::CheckpointFiles& files_;
  const config::Config& config_;
  const ConvertOptions& options_;
  const Progress& progress_;
  std::map<std::string, Found> by_values_;
  std::vector<Job> jobs_;
  std::optional<stream::LoadedModel> model_;  // for the calibration
  std::optional<Calibration> calibration_;
  std::optional<Gptq> gptq_;
  std::string gptq_key_;
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

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const char c : text) hash = (hash ^ static_cast<std::uint8_t>(c)) * 1099511628211u;
  return hash;
}

// Differs wherever the destination's bytes may.
std::string fingerprint(const io::CheckpointFiles& files, const ConvertOptions& o) {
  std::string text = fmt::format("convert {} {} shards {}\n", std::filesystem::canonical(files.directory()).string(),
                                 describe_storage(o.storage), o.shard_bytes);
  if (o.calibration) {
    std::uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (const config::TokenId id : o.calibration->ids) hash = (hash ^ static_cast<std::uint32_t>(id)) * 1099511628211u;
    text += fmt::format("calibration {} {:x} {}\n", o.calibration->ids.size(), hash, o.calibration->bos);
  }
  for (const char* name : {"config.json", io::kIndexFile})
    if (const auto file = files.directory() / name; std::filesystem::exists(file))
      text += fmt::format("{} {:x}\n", name, hash_of(io::read_text_file(file)));
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
  check_storage(options.storage);
  const weights::Checkpoint checkpoint = weights::open_checkpoint(source);
  const config::Config& config = checkpoint.config;
  io::Json json = io::read_json_file(source / "config.json");
  check_places(source, destination);
  for (const std::string& note : checkpoint.notes) log_warning("{}: {}", source.string(), note);
  Converter converter(ctx, *checkpoint.files, config, options, progress);
  const ShardPlan plan = converter.plan();
  ModelDirectory directory(destination, fingerprint(*checkpoint.files, options));
  try {
    converter.prepare_calibration();
    converter.write(plan, directory);
  } catch (const BadValue&) {
    directory.discard();
    throw;
  }
  StorageOptions stored = options.storage;
  stored.ue8m0 |= stored.target == Target::kFp8 && config.ue8m0();
  set_storage(json, config, stored);
  // The destination's config says what its files hold.
  if (const auto stated = json.find("num_nextn_predict_layers"); stated != json.end() && stated->is_number())
    *stated = config.num_nextn_predict_layers;
  directory.write_text("config.json", json.dump(2) + "\n");
  copy_side_files(source, directory);
  directory.finish(plan);
}

}  // namespace hadal::checkpoint
