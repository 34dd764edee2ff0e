#include "hadal/io/generation_config.h"

#include "hadal/core/error.h"
#include "hadal/io/json.h"

namespace hadal::io {
namespace {

// Fields of other engines that change which tokens come out, beside the values with which they do not.
struct Unused {
  const char* field;
  double neutral;
};
constexpr Unused kUnused[] = {
    {"no_repeat_ngram_size", 0},
    {"encoder_no_repeat_ngram_size", 0},
    {"num_beams", 1},
    {"num_beam_groups", 1},
    {"penalty_alpha", 0},
    {"typical_p", 1},
    {"epsilon_cutoff", 0},
    {"eta_cutoff", 0},
    {"diversity_penalty", 0},
    {"length_penalty", 1},
    {"encoder_repetition_penalty", 1},
    {"min_length", 0},
    {"min_new_tokens", 0},
    {"guidance_scale", 1},
    {"top_h", 0},
};
constexpr const char* kUnusedLists[] = {
    "bad_words_ids",         "force_words_ids",     "suppress_tokens",
    "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id",
    "sequence_bias",         "constraints",         "exponential_decay_length_penalty",
    "stop_strings",          "watermarking_config"};

std::vector<std::string> unused_fields(const Json& json) {
  std::vector<std::string> fields;
  const auto value = [&](const char* field) {
    const auto it = json.find(field);
    return it == json.end() || it->is_null() ? nullptr : &*it;
  };
  for (const Unused& u : kUnused)
    if (const Json* v = value(u.field); v && !(v->is_number() && v->get<double>() == u.neutral))
      fields.push_back(u.field);
  for (const char* field : kUnusedLists)
    if (const Json* v = value(field); v && !(v->is_array() && v->empty())) fields.push_back(field);
  return fields;
}

class Reader {
 public:
  Reader(const Json& json, const std::string& where) : json_(json), where_(where) {}

  void read(const char* field, std::optional<double>& to) {
    if (const Json* v = find(field)) v->is_number() ? void(to = v->get<double>()) : fault(field, "a number", *v);
  }
  void read(const char* field, std::optional<bool>& to) {
    if (const Json* v = find(field)) v->is_boolean() ? void(to = v->get<bool>()) : fault(field, "true or false", *v);
  }
  void read(const char* field, std::optional<std::int64_t>& to) {
    if (const Json* v = find(field))
      v->is_number_integer() ? void(to = v->get<std::int64_t>()) : fault(field, "an integer", *v);
  }
  void read(const char* field, std::vector<std::int32_t>& to) {
    const Json* v = find(field);
    if (!v) return;
    const Json list = v->is_array() ? *v : Json::array({*v});
    for (const Json& id : list) {
      if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() > INT32_MAX)
        return fault(field, "token ids", *v);
      to.push_back(id.get<std::int32_t>());
    }
  }
  void finish() const {
    if (!faults_.empty()) throw Error(faults_);
  }

 private:
  const Json* find(const char* field) const {
    const auto it = json_.find(field);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  void fault(const char* field, const char* expected, const Json& came) {
    faults_ += fmt::format("{}{}: {} is {}, {} was expected", faults_.empty() ? "" : "\n", where_, field, came.dump(),
                           expected);
  }

  const Json& json_;
  const std::string& where_;
  std::string faults_;
};

}  // namespace

GenerationConfig parse_generation_config(const Json& json, const std::string& where) {
  HADAL_CHECK(json.is_object(), "{}: a JSON object was expected", where);
  GenerationConfig config;
  Reader in(json, where);
  in.read("eos_token_id", config.eos_token_ids);
  in.read("do_sample", config.do_sample);
  in.read("temperature", config.temperature);
  in.read("top_p", config.top_p);
  in.read("min_p", config.min_p);
  in.read("repetition_penalty", config.repetition_penalty);
  in.read("top_k", config.top_k);
  in.read("max_new_tokens", config.max_new_tokens);
  in.finish();
  config.unused_fields = unused_fields(json);
  return config;
}

GenerationConfig load_generation_config(const std::filesystem::path& directory) {
  const auto path = directory / "generation_config.json";
  if (!std::filesystem::exists(path)) return {};
  return parse_generation_config(read_json_file(path), path.string());
}

}  // namespace hadal::io
