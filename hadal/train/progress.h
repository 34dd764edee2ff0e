// Steps and validations as lines of a terminal.
#pragma once

#include <string>

#include "hadal/train/run_log.h"

namespace hadal::train {

// "step 120/5000  loss 3.214  main 2.913  mtp 3.41  grad 1.02  lr 2.2e-4  2712 tok/s  66% of FMA  1 h 20 min left".
// `total_steps` 0, `seconds_left` that is not a positive number, speeds of 0: not known, and left out.
std::string progress_line(const StepRecord& record, Index total_steps, double seconds_left);

// "step 200: validation 0.8245 nats a token, 0.4770 bits a byte, MaxVio 0.214", the mean of the layers with experts.
std::string validation_line(const ValidationRecord& record);

// 41 s, 4 min 12 s, 1 h 20 min, 3 d 4 h.
std::string duration_text(double seconds);

}  // namespace hadal::train
