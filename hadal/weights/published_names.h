// The same numbers under other names: what trainers, wrappers and newer libraries make of the published names is read
// as if it were published so. Nothing is copied: parts of stacked tensors are views (io::CheckpointFiles::add_view).
//
//   as it may lie in the files                            as it is published
//   P.layers..., P any prefix; layers... of a base class  model.layers...
//   mlp.experts.gate_up_proj [E, 2 I, H]                  mlp.experts.0.gate_proj.weight [I, H], ... up_proj.weight,
//   ... mlp.experts.down_proj [E, H, I]                       mlp.experts.0.down_proj.weight [H, I], ...
//   mlp.experts.gate_proj, up_proj [E, I, H]              the same, one by one
//   mlp.gate_up_proj.weight [2 I, H]                      mlp.gate_proj.weight [I, H], mlp.up_proj.weight [I, H]
//
// with or without ".weight" behind a stack's name; quantised ones with their scales ("_scale_inv", ...) alike.
#pragma once

#include <string>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/io/checkpoint_files.h"

namespace hadal::weights {

// Returns what was translated, a sentence each. Throws Error if a stack has a shape that cannot be taken apart.
std::vector<std::string> use_published_names(io::CheckpointFiles& files, const config::Config& config);

}  // namespace hadal::weights
