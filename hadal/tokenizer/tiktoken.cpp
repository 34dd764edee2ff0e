#include <charconv>
#include <unordered_map>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"
#include "hadal/tokenizer/tokenizer_files.h"

namespace hadal::tokenizer {
namespace {

// As published with the Moonlight and Kimi-K2 tokenizers.
constexpr const char* kMoonshotPattern =
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr TokenId kReservedTokens = 256;
constexpr std::size_t kLongestText = 400'000, kLongestRun = 25'000;
constexpr TokenId kMostRanks = 1 << 24;

int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

bool decode_base64(std::string_view text, std::string& bytes) {
  bytes.clear();
  while (text.ends_with('=')) text.remove_suffix(1);
  std::uint32_t bits = 0;
  int count = 0;
  for (char c : text) {
    const int value = base64_value(c);
    if (value < 0) return false;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 0xFF);
  }
  return count < 6 && !bytes.empty();
}

void read_line(std::string_view line, std::size_t number, const std::string& where, TokenizerData& data) {
  const std::size_t space = line.find(' ');
  std::string bytes;
  TokenId rank = -1;
  const char* end = line.data() + line.size();
  const bool good = space != line.npos && decode_base64(line.substr(0, space), bytes) &&
                    std::from_chars(line.data() + space + 1, end, rank).ptr == end && rank >= 0 && rank < kMostRanks;
  HADAL_CHECK(good, "{}: line {} is not a base64 token and its rank", where, number);
  HADAL_CHECK(!data.vocabulary.is_assigned(rank), "{}: line {} repeats rank {}", where, number, rank);
  data.vocabulary.assign(rank, bytes);
  if (bytes.size() == 1) data.byte_ids[static_cast<unsigned char>(bytes[0])] = rank;
}

// Any two tokens whose bytes together are a token may merge, at that token's rank.
void add_merges(TokenizerData& data) {
  const Vocabulary& v = data.vocabulary;
  std::unordered_map<std::string_view, TokenId> ids;
  for (TokenId id = 0; id < v.size(); ++id)
    if (v.is_assigned(id)) ids.emplace(v.bytes(id), id);
  for (TokenId id = 0; id < v.size(); ++id) {
    const std::string_view bytes = v.bytes(id);
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      const auto left = ids.find(bytes.substr(0, cut)), right = ids.find(bytes.substr(cut));
      if (left != ids.end() && right != ids.end()) data.merges.push_back({left->second, right->second, id, id});
    }
  }
}

}  // namespace

TokenizerData parse_tiktoken_model(std::string_view text, const TokenizerConfig& config, const std::string& where) {
  TokenizerData data;
  data.byte_ids.fill(-1);
  text = io::utf8_text(text, where);
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) read_line(line, number, where, data);
  }
  HADAL_CHECK(data.vocabulary.size() > 0, "{}: has no tokens", where);
  add_merges(data);
  data.whole_pieces_first = true;
  data.steps.push_back({kMoonshotPattern, SplitBehavior::kIsolated, false});
  data.longest_text = kLongestText;
  data.longest_run = kLongestRun;
  const TokenId base = data.vocabulary.size();
  std::map<TokenId, AddedToken> added = config.added_tokens_decoder;
  for (TokenId id = base; id < base + kReservedTokens; ++id)
    if (!added.contains(id))
      added[id] = {.id = id, .content = "<|reserved_token_" + std::to_string(id) + "|>", .special = true};
  for (auto& [id, token] : added) {
    token.normalized = false;
    data.added.push_back(token);
  }
  return data;
}

}  // namespace hadal::tokenizer
