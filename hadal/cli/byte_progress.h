// Progress of long work on files, and Ctrl-C.
#pragma once

#include <memory>
#include <string>

#include "hadal/cli/interrupt.h"
#include "hadal/cli/terminal.h"

namespace hadal::cli {

// A checkpoint::Progress: draws a bar, returns false once the user pressed Ctrl-C.
class ByteProgress {
 public:
  explicit ByteProgress(std::string label) : label_(std::move(label)) {}

  bool operator()(std::uint64_t done, std::uint64_t total) const {
    if (!bar_) bar_ = std::make_shared<ProgressBar>(label_, total);
    bar_->update(done);
    return !interrupted();
  }

 private:
  std::string label_;
  mutable std::shared_ptr<ProgressBar> bar_;  // shared because std::function copies its target
};

}  // namespace hadal::cli
