// Where a run stands, beside its tensors: with them all that the next step depends on.
#pragma once

#include <string>
#include <vector>

#include "hadal/data/loader.h"
#include "hadal/io/json.h"

namespace hadal::train {

struct RunState {
  Index step = 0;             // steps done
  std::uint64_t tokens = 0;   // consumed by them
  Index optimizer_steps = 0;  // fewer, where batches were skipped
  Index spikes = 0;
  bool last_was_spike = false;
  std::vector<double> losses;  // of the last steps, the newest at the end: what a spike is told from
  data::LoaderState loader;
  double seconds = 0;  // of training
};

io::Json to_json(const RunState& state);
// Throws Error, `where` in front, for what is no such document.
RunState parse_run_state(const io::Json& json, const std::string& where);

}  // namespace hadal::train
