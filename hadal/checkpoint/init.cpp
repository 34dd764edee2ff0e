#include "hadal/checkpoint/init.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "hadal/checkpoint/normal_fill.h"
#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/model/transformer.h"

namespace hadal::checkpoint {
namespace {

using Entry = io::SafetensorsWriter::Entry;
using weights::ParamRole;
using weights::ParamSpec;

class Initialiser {
 public:
  Initialiser(Context& ctx, const InitOptions& options, double std, std::uint64_t total, const Progress& progress)
      : ctx_(ctx), options_(options), std_(std), total_(total), progress_(progress) {}

  void write(const ParamSpec& spec, const Encoding& encoding, std::uint64_t stream, io::SafetensorsWriter& writer) {
    PieceEncoder encoder(ctx_, encoding, options_.storage.ue8m0);
    const bool matrix = weights::is_matrix(spec.info.role);
    const Index rows = spec.info.shape[0], columns = matrix ? spec.info.shape[1] : 1;
    const Index step = rows_per_piece(columns);
    for (Index row = 0; row < rows; row += step) {
      const Workspace::Scope scope(ctx_.workspace);
      const Index count = std::min(step, rows - row);
      const TensorRef piece = ctx_.workspace.floats(matrix ? Shape{count, columns} : Shape{count});
      fill(spec.info.role, piece, stream, row * columns);
      write_bytes(encoder.encode(piece), writer);
    }
    writer.write(encoder.companions());
  }

 private:
  void fill(ParamRole role, const TensorRef& piece, std::uint64_t stream, Index first) {
    if (role == ParamRole::kNorm || role == ParamRole::kRouterBias)
      return void(std::fill_n(piece.data<float>(), piece.num_elements(), role == ParamRole::kNorm ? 1.0f : 0.0f));
    fill_normal(ctx_, {piece.data<float>(), static_cast<std::size_t>(piece.num_elements())}, options_.seed, stream,
                static_cast<std::uint64_t>(first), std_);
  }

  void write_bytes(const ConstTensorRef& piece, io::SafetensorsWriter& writer) {
    writer.write(std::span(static_cast<const std::byte*>(piece.raw()), static_cast<std::size_t>(piece.num_bytes())));
    done_ += static_cast<std::uint64_t>(piece.num_bytes());
    if (progress_ && !progress_(done_, total_))
      throw Interrupted("interrupted; run the same command again to start over");
  }

  Context& ctx_;
  const InitOptions& options_;
  double std_;
  std::uint64_t done_ = 0, total_;
  const Progress& progress_;
};

void write_configs(const ModelDirectory& directory, io::Json config, const config::Config& c,
                   const StorageOptions& storage) {
  set_storage(config, c, storage);
  directory.write_text("config.json", config.dump(2) + "\n");
  io::Json generation = io::Json::object();
  if (c.bos_token_id) generation["bos_token_id"] = *c.bos_token_id;
  if (!c.eos_token_ids.empty())
    generation["eos_token_id"] = c.eos_token_ids.size() == 1 ? io::Json(c.eos_token_ids[0]) : io::Json(c.eos_token_ids);
  directory.write_text("generation_config.json", generation.dump(2) + "\n");
}

}  // namespace

void init_model(Context& ctx, const std::filesystem::path& config_file, const std::filesystem::path& target,
                const InitOptions& options, const Progress& progress) {
  check_storage(options.storage);
  std::error_code status;
  HADAL_CHECK(std::filesystem::exists(config_file, status), "{}: there is no such config file", config_file.string());
  const auto file = std::filesystem::is_directory(config_file, status) ? config_file / "config.json" : config_file;
  const io::Json json = io::read_json_file(file);
  const config::Config config = config::parse_config(json, file.string());
  const double std = options.std >= 0 ? options.std : config.initializer_range;
  const std::vector<ParamSpec> params = model::parameter_list(config);
  std::vector<std::vector<Entry>> groups;
  std::vector<const ParamSpec*> written;
  std::vector<Encoding> encodings;
  for (const ParamSpec& spec : params) {
    if (spec.info.optional) continue;  // repeats of the embedding and the head
    encodings.push_back(encoding_of(spec.info, config, options.storage));
    groups.push_back(entries_of(spec, encodings.back()));
    written.push_back(&spec);
  }
  const ShardPlan plan = plan_shards(groups, options.shard_bytes);
  ModelDirectory directory(target, fmt::format("init seed {} std {} {} shards {}\n{}", options.seed, std,
                                               describe_storage(options.storage), options.shard_bytes, json.dump()));
  Initialiser initialiser(ctx, options, std, plan.total_bytes, progress);
  std::size_t next = 0;
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    io::SafetensorsWriter writer(directory.working() / shard_name(s, plan.shards.size()), plan.shards[s],
                                 {{"format", "pt"}});
    for (std::size_t entries = plan.shards[s].size(); entries > 0; ++next) {
      initialiser.write(*written[next], encodings[next], next, writer);
      entries -= groups[next].size();
    }
    writer.finish();
  }
  write_configs(directory, json, config, options.storage);
  directory.finish(plan);
}

}  // namespace hadal::checkpoint
