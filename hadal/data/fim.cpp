#include "hadal/data/fim.h"

#include <algorithm>
#include <array>

#include "hadal/core/random.h"
#include "hadal/data/little_endian.h"

namespace hadal::data {
namespace {

struct Spelling {
  const char *begin, *hole, *end;
};

// DeepSeek's; the report's; StarCoder's and Qwen's, which mean the same places.
constexpr std::array<Spelling, 4> kSpellings{{
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},
    {"<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"},
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},
}};

bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

// The byte that character `number` begins at.
std::size_t byte_of(std::string_view text, std::size_t number) {
  std::size_t at = 0;
  for (; at < text.size(); ++at)
    if (begins_character(text[at]) && number-- == 0) break;
  return at;
}

}  // namespace

FimTokens find_fim_tokens(const tokenizer::Tokenizer& tokenizer, const std::string& where) {
  for (const Spelling& s : kSpellings) {
    const auto begin = tokenizer.added_token(s.begin), hole = tokenizer.added_token(s.hole),
               end = tokenizer.added_token(s.end);
    if (begin && hole && end) return {*begin, *hole, *end};
  }
  fail("{}: has no tokens for fill-in-the-middle ({}, {} and {}); --fim-rate 0 does without", where,
       kSpellings[0].begin, kSpellings[0].hole, kSpellings[0].end);
}

std::optional<FimCut> fim_cut(std::string_view text, const io::Digest& digest, std::uint64_t seed, double rate) {
  const Philox draws(seed, number_at<std::uint64_t>(digest.data() + 16));
  if (!(draws.uniform(0) < rate)) return std::nullopt;
  const std::size_t count = characters(text);
  if (count < 2) return std::nullopt;
  const auto draw = [&](std::uint64_t i) {
    return std::min(count, static_cast<std::size_t>(draws.uniform(i) * static_cast<double>(count + 1)));
  };
  const auto [first, last] = std::minmax({draw(1), draw(2)});
  return FimCut{byte_of(text, first), byte_of(text, last)};
}

std::vector<TokenId> encode_fim(const tokenizer::Tokenizer& tokenizer, const FimTokens& tokens, std::string_view text,
                                const FimCut& cut) {
  std::vector<TokenId> out;
  const auto part = [&](TokenId before, std::string_view part_text) {
    out.push_back(before);
    const auto ids = tokenizer.encode(part_text, tokenizer::AddedTokenMode::kIgnore);
    out.insert(out.end(), ids.begin(), ids.end());
  };
  part(tokens.begin, text.substr(0, cut.begin));
  part(tokens.hole, text.substr(cut.end));
  part(tokens.end, text.substr(cut.begin, cut.end - cut.begin));
  return out;
}

}  // namespace hadal::data
