// A model's tokenizer: byte-level BPE from tokenizer.json, or tiktoken.model with the Moonlight and Kimi pattern. Text
// is any bytes: what is not UTF-8 is encoded byte by byte and comes back unchanged.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/tokenizer/prompt.h"
#include "hadal/tokenizer/tokenizer_files.h"

namespace hadal::tokenizer {

// What spelled-out added tokens in a text become.
enum class AddedTokenMode { kRecognise, kIgnore };

class Tokenizer {
 public:
  Tokenizer(TokenizerData data, TokenizerConfig config, const std::string& where);
  // From a model directory: tokenizer.json, else tiktoken.model; tokenizer_config.json if it is there.
  static Tokenizer load(const std::filesystem::path& directory);
  static bool exists(const std::filesystem::path& directory);

  // Adds no BOS, ever: chat templates write it themselves (rule 3). Thread-safe.
  std::vector<TokenId> encode(std::string_view text, AddedTokenMode mode = AddedTokenMode::kRecognise) const;
  // Only what the template wrote becomes added tokens (rule 10).
  std::vector<TokenId> encode(const Prompt& prompt) const;
  // The bytes of the tokens, one after another; cut characters stay cut. Unassigned ids throw Error.
  std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;

  std::string_view token_bytes(TokenId id) const { return data_.vocabulary.bytes(id); }
  std::optional<TokenId> added_token(std::string_view content) const;
  bool is_special(TokenId id) const;
  bool is_assigned(TokenId id) const { return data_.vocabulary.is_assigned(id); }
  // Highest assigned id + 1: 128815 for DeepSeek-V3, whose embedding has 129280 rows.
  TokenId vocab_size() const { return data_.vocabulary.size(); }
  const TokenizerConfig& config() const { return config_; }
  const AddedTokens& added_tokens() const { return added_; }
  const PreTokenizer& pre_tokenizer() const { return *pre_tokenizer_; }

 private:
  std::vector<TokenId> encode_runs(std::string_view text, const std::vector<Prompt::Run>& runs) const;
  void encode_text(std::string_view text, Bpe::Cache& cache, std::vector<TokenId>& out) const;
  void encode_bounded(std::string_view text, Bpe::Cache& cache, std::vector<TokenId>& out) const;

  // Caches of finished calls wait for the next ones, so that words stay known and calls do not share one.
  struct CachePool {
    std::mutex mutex;
    std::vector<std::unique_ptr<Bpe::Cache>> idle;
  };

  TokenizerData data_;
  TokenizerConfig config_;
  AddedTokens added_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<Bpe> bpe_;
  std::unique_ptr<CachePool> caches_;
};

}  // namespace hadal::tokenizer
