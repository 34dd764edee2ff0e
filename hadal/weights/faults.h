// What is wrong with the tensors of a checkpoint, as a whole: parameters that are missing or of the wrong kind, and
// tensors beyond them that would change what the weights mean if they were left out. One verdict for load, convert and
// verify.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/io/checkpoint_files.h"
#include "hadal/weights/param.h"

namespace hadal::weights {

struct TensorFaults {
  std::vector<std::string> faults;   // a sentence each; the model cannot be what was meant
  std::vector<std::string> notes;    // what is left out without harm
  std::vector<std::string> foreign;  // of those, what belongs to no part of the model (a value head, a vision tower)
  // Whole MTP layers that the config says are not there: of no use, but contradicted by config.json.
  std::vector<std::string> unused;
};

// `params` are all of the config's; those of layers from `layers` on need not be sound (MTP layers that nobody asked
// for). Reads headers, and of surplus tensors the values where zeros say that they mean nothing.
TensorFaults tensor_faults(const std::vector<ParamSpec>& params, const config::Config& config,
                           const io::CheckpointFiles& files, Index layers);

// Throws Error with the first of them, a line each.
[[noreturn]] void refuse(const std::vector<std::string>& faults, const std::filesystem::path& directory);

// Of names beyond the config's parameters, those that belong to no part of the model.
bool is_foreign(const std::string& name);

// Norm gains and router biases: the first value that is not finite, as a sentence; empty if there is none. F32 [D].
std::string vector_fault(const std::string& name, const ConstTensorRef& values);

}  // namespace hadal::weights
