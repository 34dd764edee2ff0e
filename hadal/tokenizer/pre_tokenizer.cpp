#include "hadal/tokenizer/pre_tokenizer.h"

namespace hadal::tokenizer {
namespace {

struct Part {
  std::size_t begin, end;
  bool is_match;
};

// The text as alternating gaps and matches.
std::vector<Part> find_parts(const Regex& regex, std::string_view text, bool invert) {
  std::vector<Part> parts;
  std::size_t done = 0;
  Regex::Match m{};
  for (std::size_t from = 0; from <= text.size() && regex.find(text, from, m);) {
    if (m.end == m.begin) {  // an empty match separates nothing
      from = m.end + 1;
      continue;
    }
    if (m.begin > done) parts.push_back({done, m.begin, invert});
    parts.push_back({m.begin, m.end, !invert});
    done = from = m.end;
  }
  if (done < text.size()) parts.push_back({done, text.size(), invert});
  return parts;
}

std::vector<Part> arrange(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Part> out;
  bool join_next = false;
  for (const Part& p : parts) {
    const bool joins =
        !out.empty() && ((behavior == SplitBehavior::kMergedWithPrevious && p.is_match && !out.back().is_match) ||
                         (behavior == SplitBehavior::kMergedWithNext && join_next) ||
                         (behavior == SplitBehavior::kContiguous && out.back().is_match == p.is_match));
    join_next = p.is_match;
    if (behavior == SplitBehavior::kRemoved && p.is_match) continue;
    if (joins)
      out.back() = {out.back().begin, p.end, p.is_match};
    else
      out.push_back(p);
  }
  return out;
}

}  // namespace

PreTokenizer::PreTokenizer(std::vector<SplitStep> steps, const std::string& where) {
  if (DeepseekScanner::handles(steps)) scanner_ = std::make_unique<DeepseekScanner>();
  for (SplitStep& rule : steps) {
    Regex regex(rule.pattern, where);
    steps_.push_back({std::move(regex), std::move(rule)});
  }
}

void PreTokenizer::split_by_patterns(std::string_view text, const std::function<void(std::string_view)>& piece) const {
  std::vector<std::string_view> pieces = {text};
  for (const Step& step : steps_) {
    std::vector<std::string_view> next;
    for (std::string_view p : pieces)
      for (const Part& part : arrange(find_parts(step.regex, p, step.rule.invert), step.rule.behavior))
        next.push_back(p.substr(part.begin, part.end - part.begin));
    pieces = std::move(next);
  }
  for (std::string_view p : pieces)
    if (!p.empty()) piece(p);
}

}  // namespace hadal::tokenizer
