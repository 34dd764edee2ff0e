#include "hadal/tokenizer/added_tokens.h"

#include <algorithm>

#include "hadal/tokenizer/regex.h"

namespace hadal::tokenizer {
namespace {

bool ends_with_word(std::string_view text) {
  static const Regex word(R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}]\z)", "added tokens");
  Regex::Match m{};
  // One character is enough to see.
  return word.find(text, text.size() - std::min<std::size_t>(text.size(), 4), m);
}

bool starts_with_word(std::string_view text) {
  static const Regex word(R"(\A[\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}])", "added tokens");
  Regex::Match m{};
  return word.find(text.substr(0, 4), 0, m);
}

std::size_t spaces_at_start(std::string_view text) {
  static const Regex spaces(R"(\A\s+)", "added tokens");
  Regex::Match m{};
  return spaces.find(text, 0, m) ? m.end : 0;
}

std::size_t start_of_trailing_spaces(std::string_view text) {
  static const Regex spaces(R"(\s+\z)", "added tokens");
  Regex::Match m{};
  return spaces.find(text, 0, m) ? m.begin : text.size();
}

// The end of the template run that position `i` lies in, or `i` itself if a user wrote it.
std::size_t template_end(const std::vector<Prompt::Run>& runs, std::size_t i) {
  const auto run =
      std::upper_bound(runs.begin(), runs.end(), i, [](std::size_t at, const Prompt::Run& r) { return at < r.end; });
  return run != runs.end() && run->origin == Origin::kTemplate ? run->end : i;
}

}  // namespace

void AddedTokens::Trie::insert(std::string_view text, std::size_t token) {
  if (text.empty()) return;
  std::size_t node = 0;
  first_[static_cast<unsigned char>(text[0])] = true;
  for (char c : text) {
    const auto [it, added] = nodes_[node].next.emplace(static_cast<unsigned char>(c), nodes_.size());
    node = it->second;
    if (added) nodes_.emplace_back();
  }
  nodes_[node].token = static_cast<std::ptrdiff_t>(token);
}

std::ptrdiff_t AddedTokens::Trie::longest(std::string_view text) const {
  std::ptrdiff_t found = -1;
  std::size_t node = 0;
  for (char c : text) {
    const auto it = nodes_[node].next.find(static_cast<unsigned char>(c));
    if (it == nodes_[node].next.end()) break;
    node = it->second;
    if (nodes_[node].token >= 0) found = nodes_[node].token;
  }
  return found;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    by_content_[tokens_[i].content] = i;
    by_id_[tokens_[i].id] = i;
    (tokens_[i].normalized ? normalized_ : raw_).insert(tokens_[i].content, i);
  }
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto it = by_content_.find(content);
  return it == by_content_.end() ? nullptr : &tokens_[it->second];
}

const AddedToken* AddedTokens::find(TokenId id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[it->second];
}

void AddedTokens::split_segment(std::string_view text, Segment part, const std::vector<Prompt::Run>& runs,
                                const Trie& trie, std::vector<Segment>& out) const {
  std::size_t done = part.begin;
  for (std::size_t i = part.begin; i < part.end;) {
    if (!trie.starts_with(static_cast<unsigned char>(text[i]))) {
      ++i;
      continue;
    }
    const std::size_t limit = std::min(part.end, template_end(runs, i));
    const std::ptrdiff_t index = trie.longest(text.substr(i, limit - i));
    if (index < 0) {
      ++i;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(index)];
    std::size_t begin = i, end = i + token.content.size();
    i = end;
    const std::string_view before = text.substr(part.begin, begin - part.begin),
                           after = text.substr(end, part.end - end);
    if (token.single_word && (ends_with_word(before) || starts_with_word(after))) continue;
    if (token.lstrip) begin = std::max(done, part.begin + start_of_trailing_spaces(before));
    if (token.rstrip) end += spaces_at_start(after);
    if (begin > done) out.push_back({done, begin, -1});
    out.push_back({begin, end, token.id});
    done = end;
    i = std::max(i, end);
  }
  if (done < part.end) out.push_back({done, part.end, -1});
}

std::vector<AddedTokens::Segment> AddedTokens::split(std::string_view text,
                                                     const std::vector<Prompt::Run>& runs) const {
  std::vector<Segment> parts;
  if (!text.empty()) parts.push_back({0, text.size(), -1});
  for (const Trie* trie : {&raw_, &normalized_}) {
    if (trie->empty()) continue;
    std::vector<Segment> next;
    for (const Segment& part : parts) {
      if (part.id >= 0)
        next.push_back(part);
      else
        split_segment(text, part, runs, *trie, next);
    }
    parts = std::move(next);
  }
  return parts;
}

}  // namespace hadal::tokenizer
