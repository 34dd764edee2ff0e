// hadal inspect
#include "hadal/checkpoint/inspect.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "hadal/cli/commands.h"
#include "hadal/cli/terminal.h"
#include "hadal/serve/end_tokens.h"
#include "hadal/tokenizer/chat_template.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::ordered_json;

struct InspectCommand {
  std::string model;
  bool json = false, tensors = false;
};

const char* method_name(config::TopkMethod m) {
  return m == config::TopkMethod::kGreedy               ? "greedy"
         : m == config::TopkMethod::kGroupLimitedGreedy ? "group_limited_greedy"
                                                        : "noaux_tc";
}

Json architecture(const config::Config& c) {
  Json j = {{"model_type", c.model_type},
            {"num_hidden_layers", c.num_hidden_layers},
            {"num_nextn_predict_layers", c.num_nextn_predict_layers},
            {"hidden_size", c.hidden_size},
            {"vocab_size", c.vocab_size},
            {"num_attention_heads", c.num_attention_heads}};
  j["q_lora_rank"] = c.q_lora_rank ? Json(*c.q_lora_rank) : Json();
  j["kv_lora_rank"] = c.kv_lora_rank;
  j["qk_nope_head_dim"] = c.qk_nope_head_dim;
  j["qk_rope_head_dim"] = c.qk_rope_head_dim;
  j["v_head_dim"] = c.v_head_dim;
  j["n_routed_experts"] = c.n_routed_experts;
  j["n_shared_experts"] = c.n_shared_experts;
  j["num_experts_per_tok"] = c.num_experts_per_tok;
  if (c.n_routed_experts > 0) {
    j["first_k_dense_replace"] = c.first_k_dense_replace;
    j["n_group"] = c.n_group;
    j["topk_group"] = c.topk_group;
    j["topk_method"] = method_name(c.topk_method);
    j["scoring_func"] = c.scoring_func == config::ScoringFunc::kSigmoid ? "sigmoid" : "softmax";
    j["routed_scaling_factor"] = c.routed_scaling_factor;
  }
  j["max_position_embeddings"] = c.max_position_embeddings;
  j["rope_theta"] = c.rope_theta;
  j["yarn_factor"] = c.yarn ? Json(c.yarn->factor) : Json();
  j["dtype"] = c.dtype;
  j["quantization"] = c.quantization ? Json(c.quantization->description()) : Json();
  return j;
}

// A faulty file is verify's business; here it only says nothing.
io::GenerationConfig generation_config(const std::filesystem::path& directory) {
  try {
    return io::load_generation_config(directory);
  } catch (const Error&) {
    return {};
  }
}

Json end_of_answers(const std::filesystem::path& directory, const config::Config& config) {
  std::optional<tokenizer::Tokenizer> tokenizer;
  if (std::filesystem::is_directory(directory) && tokenizer::Tokenizer::exists(directory))
    tokenizer = tokenizer::Tokenizer::load(directory);
  const serve::EndTokens ends =
      serve::end_tokens(generation_config(directory), config, tokenizer ? &*tokenizer : nullptr);
  Json j = {{"ids", ends.ids}, {"from", ends.source.empty() ? Json() : Json(ends.source)}};
  if (tokenizer && tokenizer::ChatTemplate::exists(directory)) {
    const auto end = serve::end_of_turn(tokenizer::ChatTemplate::load(directory), *tokenizer);
    j["of_a_turn"] = end ? Json(*end) : Json();
  }
  return j;
}

Json text_side(const std::filesystem::path& directory) {
  Json j;
  const bool has = std::filesystem::is_directory(directory) && tokenizer::Tokenizer::exists(directory);
  j["tokenizer"] =
      !has ? Json() : Json(std::filesystem::exists(directory / "tokenizer.json") ? "tokenizer.json" : "tiktoken.model");
  if (has) j["tokenizer_vocabulary"] = tokenizer::Tokenizer::load(directory).vocab_size();
  const bool chat = std::filesystem::is_directory(directory) && tokenizer::ChatTemplate::exists(directory);
  j["chat_template"] = chat ? Json(tokenizer::ChatTemplate::load(directory).family()) : Json();
  return j;
}

Json describe(const InspectCommand& o) {
  const checkpoint::Inspection in = checkpoint::inspect_model(o.model);
  Json j = architecture(in.config);
  j["parameters"] = in.parameters;
  j["active_parameters"] = in.active_parameters;
  j["mtp_parameters"] = in.mtp_parameters;
  const auto cache = static_cast<std::uint64_t>(in.config.kv_cache_width() * in.config.num_hidden_layers);
  j["kv_values_per_token_and_layer"] = in.config.kv_cache_width();
  j["kv_bytes_per_token"] = {{"bf16", 2 * cache}, {"f32", 4 * cache}};
  j.update(text_side(o.model));
  j["end_tokens"] = end_of_answers(o.model, in.config);
  j["files"] = in.num_files;
  j["bytes_by_dtype"] = in.bytes_by_dtype;
  j["parameters_by_format"] = in.parameters_by_format;
  j["unknown_config_fields"] = in.config.unknown_fields;
  j["notes"] = in.notes;
  if (!o.tensors) return j;
  j["tensors"] = Json::array();
  for (const auto& t : in.tensors)
    j["tensors"].push_back(
        {{"name", t.name}, {"dtype", t.dtype}, {"shape", t.shape}, {"bytes", t.bytes}, {"file", t.file}});
  return j;
}

std::string grouped(std::uint64_t n) {
  std::string text = std::to_string(n);
  for (std::ptrdiff_t i = static_cast<std::ptrdiff_t>(text.size()) - 3; i > 0; i -= 3)
    text.insert(static_cast<std::size_t>(i), ",");
  return text;
}

std::string readable(const Json& value) {
  if (value.is_null()) return "none";
  if (value.is_number_unsigned()) return grouped(value.get<std::uint64_t>());
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() || value.is_array()) {
    std::string text;
    for (const auto& [key, v] : value.items())
      text += (text.empty() ? "" : ", ") + (value.is_object() ? key + " " : std::string()) + readable(v);
    return text.empty() ? "none" : text;
  }
  return value.dump();
}

int run(const InspectCommand& o) {
  const Json j = describe(o);
  if (o.json) {
    print(j.dump(2) + "\n");
    return 0;
  }
  for (const auto& [key, value] : j.items())
    if (key != "tensors") print(fmt::format("{:32}{}\n", key, readable(value)));
  if (o.tensors)
    for (const Json& t : j["tensors"])
      print(fmt::format("{:80} {:8} {:20} {:>16}  {}\n", t["name"].get<std::string>(), t["dtype"].get<std::string>(),
                        t["shape"].get<std::string>(), grouped(t["bytes"].get<std::uint64_t>()),
                        t["file"].get<std::string>()));
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  static InspectCommand o;
  CLI::App* command =
      app.add_subcommand("inspect", "What a model is: architecture, parameters, bytes, cache, context, template");
  command->add_option("MODEL", o.model, "Model directory, or a config.json alone")->required();
  command->add_flag("--tensors", o.tensors, "List every tensor with dtype, shape, bytes and file");
  command->add_flag("--json", o.json, "Print as JSON");
  command->footer(
      "active_parameters are those read for one token: without the embedding table and the experts not "
      "chosen. end_tokens are those of generation_config.json, else of config.json, else the tokenizer's eos_token; "
      "of_a_turn is what the chat template puts behind an answer. notes say how the files differ from what is "
      "published (names that are translated, MTP that is absent).\n\nExample:\n  hadal inspect models/mini --tensors");
  command->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
