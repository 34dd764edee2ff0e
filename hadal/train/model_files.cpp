#include "hadal/train/model_files.h"

#include <algorithm>

#include "hadal/checkpoint/model_directory.h"
#include "hadal/io/safetensors.h"
#include "hadal/weights/checkpoint.h"

namespace hadal::train {
namespace {

using Entry = io::SafetensorsWriter::Entry;

constexpr const char* kTokenizerFiles[] = {"tokenizer.json",          "tiktoken.model",      "tokenizer_config.json",
                                           "special_tokens_map.json", "chat_template.jinja", "generation_config.json"};
constexpr std::uint64_t kShardBytes = 5'000'000'000;

void write_parameter(Context& ctx, const Parameter& p, const checkpoint::Encoding& encoding, bool ue8m0,
                     io::SafetensorsWriter& writer) {
  checkpoint::PieceEncoder encoder(ctx, encoding, ue8m0);
  const Index rows = p.value.size(0), step = checkpoint::rows_per_piece(p.value->num_elements() / rows);
  for (Index row = 0; row < rows; row += step) {
    const Workspace::Scope scope(ctx.workspace);
    const ConstTensorRef stored = encoder.encode(p.value->rows(row, std::min(row + step, rows)));
    writer.write({static_cast<const std::byte*>(stored.raw()), static_cast<std::size_t>(stored.num_bytes())});
  }
  writer.write(encoder.companions());
}

}  // namespace

std::string ModelFiles::config_text(const config::Config& c, const checkpoint::StorageOptions& storage) const {
  io::Json json = config;
  checkpoint::set_storage(json, c, storage);
  return json.dump(2) + "\n";
}

config::Config model_config(const std::filesystem::path& config_file, const std::filesystem::path& init_from) {
  if (!init_from.empty()) return weights::open_checkpoint(init_from).config;
  std::error_code status;
  HADAL_CHECK(std::filesystem::exists(config_file, status), "model.config: {}: there is no such file", config_file.string());
  return config::load_config(config_file);
}

ModelFiles read_model_files(const std::filesystem::path& config_file, const std::filesystem::path& tokenizer) {
  std::error_code status;
  const bool is_directory = std::filesystem::is_directory(config_file, status);
  ModelFiles files{io::read_json_file(is_directory ? config_file / "config.json" : config_file), {}};
  for (const char* name : kTokenizerFiles)
    if (std::filesystem::exists(tokenizer / name, status)) files.texts[name] = io::read_text_file(tokenizer / name);
  if (!files.texts.contains("generation_config.json")) {
    io::Json generation = io::Json::object();
    for (const char* field : {"bos_token_id", "eos_token_id"})
      if (const io::Json value = files.config.value(field, io::Json()); !value.is_null()) generation[field] = value;
    files.texts["generation_config.json"] = generation.dump(2) + "\n";
  }
  return files;
}

void write_model(Context& ctx, const Parameters& parameters, const config::Config& config, const ModelFiles& files,
                 const std::filesystem::path& target, const checkpoint::StorageOptions& storage) {
  std::vector<std::vector<Entry>> groups;
  std::vector<checkpoint::Encoding> encodings;
  for (const Parameter& p : parameters.all()) {
    encodings.push_back(checkpoint::encoding_of(p.info, config, storage));
    groups.push_back(checkpoint::entries_of({p.name, p.info}, encodings.back()));
  }
  const checkpoint::ShardPlan plan = checkpoint::plan_shards(groups, kShardBytes);
  std::filesystem::path next = target;
  next += ".new";
  // What a killed run left.
  for (const char* part : {"", ".partial"}) std::filesystem::remove_all(next.string() + part);
  checkpoint::ModelDirectory directory(next, "trained");
  std::size_t at = 0;
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    io::SafetensorsWriter writer(directory.working() / checkpoint::shard_name(s, plan.shards.size()), plan.shards[s],
                                 {{"format", "pt"}});
    for (std::size_t entries = plan.shards[s].size(); entries > 0; entries -= groups[at++].size())
      write_parameter(ctx, parameters.all()[at], encodings[at], storage.ue8m0, writer);
    writer.finish();
  }
  directory.write_text("config.json", files.config_text(config, storage));
  for (const auto& [name, text] : files.texts) directory.write_text(name, text);
  directory.finish(plan);
  std::error_code status;
  std::filesystem::remove_all(target, status);
  std::filesystem::rename(next, target, status);
  HADAL_CHECK(!status, "{}: cannot be renamed to {}: {}", next.string(), target.string(), status.message());
}

}  // namespace hadal::train
