#include "hadal/io/generation_config.h"

#include "hadal/core/error.h"
#include "hadal/io/json.h"

namespace hadal::io {
namespace {

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
  return config;
}

GenerationConfig load_generation_config(const std::filesystem::path& directory) {
  const auto path = directory / "generation_config.json";
  if (!std::filesystem::exists(path)) return {};
  return parse_generation_config(read_json_file(path), path.string());
}

}  // namespace hadal::io
