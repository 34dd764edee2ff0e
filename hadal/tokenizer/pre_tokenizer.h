// Cutting text into the pieces within which BPE merges: the steps of tokenizer.json's pre_tokenizer, one after another,
// each applied to every piece that the step before gave.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/tokenizer/deepseek_scanner.h"
#include "hadal/tokenizer/regex.h"

namespace hadal::tokenizer {

// What becomes of the matches of a pattern.
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct SplitStep {
  std::string pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // the matches are the text between the delimiters
};

class PreTokenizer {
 public:
  PreTokenizer(std::vector<SplitStep> steps, const std::string& where);

  // Calls piece(text) for each piece, in order. The pieces of isolating steps together are the text. Thread-safe.
  template <class F>
  void split(std::string_view text, const F& piece) const {
    if (scanner_)
      scanner_->split(text, piece);
    else
      split_by_patterns(text, [&](std::string_view p) { piece(p); });
  }
  // The generic way through PCRE2, also where there is a scanner for these very patterns.
  void split_by_patterns(std::string_view text, const std::function<void(std::string_view)>& piece) const;
  bool has_scanner() const { return scanner_ != nullptr; }

 private:
  struct Step {
    Regex regex;
    SplitStep rule;
  };
  std::vector<Step> steps_;
  std::unique_ptr<DeepseekScanner> scanner_;  // for DeepSeek-V3's own sequence, an order of magnitude faster
};

}  // namespace hadal::tokenizer
