#include "hadal/train/run_state.h"

#include "hadal/core/error.h"

namespace hadal::train {

using io::Json;

Json to_json(const RunState& s) {
  return {{"step", s.step},
          {"tokens", s.tokens},
          {"optimizer_steps", s.optimizer_steps},
          {"spikes", s.spikes},
          {"last_was_spike", s.last_was_spike},
          {"losses", s.losses},
          {"loader", data::to_json(s.loader)},
          {"seconds", s.seconds}};
}

RunState parse_run_state(const Json& json, const std::string& where) {
  try {
    RunState s;
    json.at("step").get_to(s.step);
    json.at("tokens").get_to(s.tokens);
    json.at("optimizer_steps").get_to(s.optimizer_steps);
    json.at("spikes").get_to(s.spikes);
    json.at("last_was_spike").get_to(s.last_was_spike);
    json.at("losses").get_to(s.losses);
    json.at("seconds").get_to(s.seconds);
    s.loader = data::parse_loader_state(json.at("loader"), where);
    HADAL_CHECK(s.step >= 0 && s.optimizer_steps >= 0 && s.optimizer_steps <= s.step,
                "{}: step {} and optimizer_steps {} contradict each other", where, s.step, s.optimizer_steps);
    return s;
  } catch (const Json::exception& e) {
    fail("{}: is not the state of a training run: {}", where, e.what());
  }
}

}  // namespace hadal::train
