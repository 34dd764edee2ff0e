#include "hadal/tokenizer/tokenizer.h"

#include <map>
#include <set>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/tokenizer/text_bounds.h"

namespace hadal::tokenizer {
namespace {

std::unordered_map<std::string, TokenId> whole_pieces(const TokenizerData& data) {
  std::unordered_map<std::string, TokenId> pieces;
  if (!data.whole_pieces_first) return pieces;
  for (TokenId id = 0; id < data.vocabulary.size(); ++id)
    if (data.vocabulary.is_assigned(id)) pieces.emplace(data.vocabulary.bytes(id), id);
  return pieces;
}

// The tokens of tokenizer_config.json that tokenizer.json has not, as transformers adds them; under the ids they state.
void add_from_config(TokenizerData& data, const TokenizerConfig& config, const std::string& where) {
  std::map<TokenId, std::string_view> known;
  std::set<std::string_view> contents;
  for (const AddedToken& token : data.added) {
    known[token.id] = token.content;
    contents.insert(token.content);
  }
  std::vector<AddedToken> more;
  for (const auto& [id, token] : config.added_tokens_decoder) {
    if (contents.contains(token.content)) continue;
    const auto it = known.find(id);
    const bool in_vocabulary = it == known.end() && data.vocabulary.is_assigned(id);
    const std::string_view there = it != known.end() ? it->second : in_vocabulary ? data.vocabulary.bytes(id) : "";
    HADAL_CHECK(there.empty() || there == token.content,
                "{}: added_tokens_decoder {} is {}, tokenizer.json has {} under this id", where, id, token.content,
                there);
    more.push_back(token);
  }
  data.added.insert(data.added.end(), more.begin(), more.end());
}

}  // namespace

Tokenizer::Tokenizer(TokenizerData data, TokenizerConfig config, const std::string& where)
    : data_(std::move(data)),
      config_(std::move(config)),
      added_(data_.added),
      pre_tokenizer_(std::make_unique<PreTokenizer>(data_.steps, where)),
      bpe_(std::make_unique<Bpe>(data_.byte_ids, data_.merges, whole_pieces(data_))),
      caches_(std::make_unique<CachePool>()) {
  for (const AddedToken& token : data_.added) data_.vocabulary.assign(token.id, token.content);
  data_.merges = {};
}

bool Tokenizer::exists(const std::filesystem::path& directory) {
  return std::filesystem::exists(directory / "tokenizer.json") || std::filesystem::exists(directory / "tiktoken.model");
}

Tokenizer Tokenizer::load(const std::filesystem::path& directory) {
  HADAL_CHECK(std::filesystem::is_directory(directory), "{}: there is no such directory", directory.string());
  TokenizerConfig config;
  const auto config_path = directory / "tokenizer_config.json";
  if (std::filesystem::exists(config_path))
    config = parse_tokenizer_config(io::read_text_file(config_path), config_path.string());
  const auto json = directory / "tokenizer.json", model = directory / "tiktoken.model";
  if (std::filesystem::exists(json)) {
    TokenizerData data = parse_tokenizer_json(io::read_text_file(json), json.string());
    add_from_config(data, config, config_path.string());
    return Tokenizer(std::move(data), config, json.string());
  }
  HADAL_CHECK(std::filesystem::exists(model), "{}: has no tokenizer, neither tokenizer.json nor tiktoken.model",
              directory.string());
  return Tokenizer(parse_tiktoken_model(io::read_text_file(model), config, model.string()), config, model.string());
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, AddedTokenMode mode) const {
  std::vector<Prompt::Run> runs;
  runs.push_back({text.size(), mode == AddedTokenMode::kRecognise ? Origin::kTemplate : Origin::kUser});
  return encode_runs(text, runs);
}

std::vector<TokenId> Tokenizer::encode(const Prompt& prompt) const {
  return encode_runs(prompt.text, prompt.runs);
}

std::vector<TokenId> Tokenizer::encode_runs(std::string_view text, const std::vector<Prompt::Run>& runs) const {
  std::unique_ptr<Bpe::Cache> cache;
  {
    const std::lock_guard lock(caches_->mutex);
    if (!caches_->idle.empty()) {
      cache = std::move(caches_->idle.back());
      caches_->idle.pop_back();
    }
  }
  if (!cache) cache = std::make_unique<Bpe::Cache>();
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4 + 8);
  for (const AddedTokens::Segment& s : added_.split(text, runs)) {
    if (s.id >= 0)
      ids.push_back(s.id);
    else
      encode_text(text.substr(s.begin, s.end - s.begin), *cache, ids);
  }
  const std::lock_guard lock(caches_->mutex);
  caches_->idle.push_back(std::move(cache));
  return ids;
}

void Tokenizer::encode_text(std::string_view text, Bpe::Cache& cache, std::vector<TokenId>& out) const {
  if (data_.longest_text == 0) return encode_bounded(text, cache, out);
  for_each_bounded_part(text, data_.longest_text, data_.longest_run,
                        [&](std::string_view part) { encode_bounded(part, cache, out); });
}

void Tokenizer::encode_bounded(std::string_view text, Bpe::Cache& cache, std::vector<TokenId>& out) const {
  pre_tokenizer_->split(text, [&](std::string_view piece) { bpe_->encode(piece, cache, out); });
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string bytes;
  for (TokenId id : ids) {
    HADAL_CHECK(is_assigned(id), "decode: there is no token {}, ids are below {}", id, vocab_size());
    if (!skip_special || !is_special(id)) bytes += token_bytes(id);
  }
  return bytes;
}

std::optional<TokenId> Tokenizer::added_token(std::string_view content) const {
  const AddedToken* token = added_.find(content);
  return token ? std::optional(token->id) : std::nullopt;
}

bool Tokenizer::is_special(TokenId id) const {
  const AddedToken* token = added_.find(id);
  return token && token->special;
}

}  // namespace hadal::tokenizer
