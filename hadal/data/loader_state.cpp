#include "hadal/data/loader.h"

namespace hadal::data {
namespace {

using io::Json;

std::uint64_t count(const Json& json, const char* name, const std::string& where) {
  const auto it = json.is_object() ? json.find(name) : json.end();
  HADAL_CHECK(json.is_object() && it != json.end() && it->is_number_unsigned(), "{}: {} must be a whole number", where,
              name);
  return it->get<std::uint64_t>();
}

std::string text(const Json& json, const char* name, const std::string& where) {
  const Json value = json.is_object() ? json.value(name, Json()) : Json();
  HADAL_CHECK(value.is_string(), "{}: {} must be text", where, name);
  return value.get<std::string>();
}

}  // namespace

Json to_json(const LoaderState& state) {
  Json sources = Json::array();
  for (const auto& s : state.sources)
    sources.push_back(
        {{"name", s.name}, {"epoch", s.epoch}, {"block", s.block}, {"offset", s.offset}, {"served", s.served}});
  return {{"dataset", io::to_hex(state.dataset)},
          {"split", split_name(state.split)},
          {"seed", state.seed},
          {"block", state.block},
          {"shuffle", state.shuffle},
          {"sources", std::move(sources)}};
}

LoaderState parse_loader_state(const Json& json, const std::string& where) {
  LoaderState state;
  const auto dataset = io::digest_from_hex(text(json, "dataset", where));
  HADAL_CHECK(dataset, "{}: dataset must be 64 hexadecimal digits", where);
  state.dataset = *dataset;
  const std::string split = text(json, "split", where);
  HADAL_CHECK(split == "train" || split == "validation", "{}: split is {}, train or validation was expected", where,
              split);
  state.split = split == "train" ? Split::kTrain : Split::kValidation;
  state.seed = count(json, "seed", where);
  state.block = count(json, "block", where);
  const Json shuffle = json.value("shuffle", Json());
  HADAL_CHECK(shuffle.is_boolean(), "{}: shuffle must be true or false", where);
  state.shuffle = shuffle.get<bool>();
  const Json sources = json.value("sources", Json());
  HADAL_CHECK(sources.is_array(), "{}: sources must be a list", where);
  for (const Json& s : sources)
    state.sources.push_back({text(s, "name", where), count(s, "epoch", where), count(s, "block", where),
                             count(s, "offset", where), count(s, "served", where)});
  return state;
}

}  // namespace hadal::data
