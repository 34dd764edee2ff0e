#include <simdjson.h>

#include <optional>
#include <unordered_map>

#include "hadal/core/error.h"
#include "hadal/io/json.h"
#include "hadal/io/utf8_text.h"
#include "hadal/tokenizer/byte_level.h"
#include "hadal/tokenizer/tokenizer_files.h"

namespace hadal::tokenizer {
namespace {

namespace dom = simdjson::dom;

constexpr std::int64_t kMostIds = std::int64_t{1} << 24;
// GPT-2's own split, which ByteLevel applies when use_regex is set.
constexpr const char* kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class Parser {
 public:
  Parser(std::string_view text, const std::string& where) : where_(where) {
    text = io::utf8_text(text, where);
    const auto status = parser_.parse(text.data(), text.size()).get(root_);
    HADAL_CHECK(status == simdjson::SUCCESS, "{}: not valid JSON: {}", where_, simdjson::error_message(status));
    HADAL_CHECK(root_.is_object(), "{}: a JSON object was expected", where_);
  }

  TokenizerData run() {
    check_model();
    check_normalizer();
    read_vocabulary();
    read_merges();
    read_pre_tokenizer();
    read_added_tokens();
    check_decoder();
    return std::move(data_);
  }

 private:
  dom::element need(dom::element parent, const char* field) const {
    dom::element value;
    HADAL_CHECK(parent.is_object() && parent[field].get(value) == simdjson::SUCCESS, "{}: {} is missing", where_,
                field);
    return value;
  }
  std::string_view text_of(dom::element parent, const char* field) const {
    std::string_view text;
    HADAL_CHECK(parent.is_object() && parent[field].get_string().get(text) == simdjson::SUCCESS,
                "{}: {} is not a string", where_, field);
    return text;
  }
  bool flag(dom::element parent, const char* field, bool otherwise) const {
    dom::element value;
    bool set = otherwise;
    if (!parent.is_object() || parent[field].get(value) != simdjson::SUCCESS || value.is_null()) return otherwise;
    HADAL_CHECK(value.get_bool().get(set) == simdjson::SUCCESS, "{}: {} is not true or false", where_, field);
    return set;
  }
  TokenId id_of(dom::element value, std::string_view token) const {
    std::int64_t id = -1;
    HADAL_CHECK(value.get_int64().get(id) == simdjson::SUCCESS && id >= 0 && id < kMostIds,
                "{}: token {} has an id that is not from 0 to {}", where_, token, kMostIds - 1);
    return static_cast<TokenId>(id);
  }
  bool is_null(const char* field) const {
    dom::element value;
    return root_[field].get(value) != simdjson::SUCCESS || value.is_null();
  }

  void check_model() {
    model_ = need(root_, "model");
    dom::element type;
    if (model_.is_object() && model_["type"].get(type) == simdjson::SUCCESS)
      HADAL_CHECK(text_of(model_, "type") == "BPE", "{}: model type {} is not supported, BPE is", where_,
                  text_of(model_, "type"));
    for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      dom::element value;
      if (model_[field].get(value) != simdjson::SUCCESS || value.is_null()) continue;
      HADAL_CHECK(text_of(model_, field).empty(), "{}: model.{} is not supported", where_, field);
    }
    HADAL_CHECK(!flag(model_, "byte_fallback", false), "{}: model.byte_fallback is not supported, byte-level BPE is",
                where_);
    data_.whole_pieces_first = flag(model_, "ignore_merges", false);
  }

  void check_normalizer() const {
    if (is_null("normalizer")) return;
    const dom::element normalizer = need(root_, "normalizer");
    dom::array parts;
    const bool empty = text_of(normalizer, "type") == "Sequence" &&
                       normalizer["normalizers"].get_array().get(parts) == simdjson::SUCCESS && parts.size() == 0;
    HADAL_CHECK(empty, "{}: normalizer {} is not supported, none or an empty Sequence is", where_,
                text_of(normalizer, "type"));
  }

  void read_vocabulary() {
    dom::object vocab;
    HADAL_CHECK(need(model_, "vocab").get_object().get(vocab) == simdjson::SUCCESS, "{}: model.vocab is not an object",
                where_);
    ids_.reserve(vocab.size());
    data_.byte_ids.fill(-1);
    for (const auto [spelling, value] : vocab) {
      const TokenId id = id_of(value, spelling);
      HADAL_CHECK(ids_.emplace(spelling, id).second, "{}: model.vocab has {} twice", where_, spelling);
      HADAL_CHECK(!data_.vocabulary.is_assigned(id), "{}: model.vocab gives id {} to two tokens", where_, id);
      // Spellings outside the alphabet are control tokens that the vocabulary repeats.
      const auto bytes = bytes_of_spelling(spelling);
      data_.vocabulary.assign(id, bytes ? std::string_view(*bytes) : spelling);
      if (bytes && bytes->size() == 1) data_.byte_ids[static_cast<unsigned char>((*bytes)[0])] = id;
    }
    HADAL_CHECK(!ids_.empty(), "{}: model.vocab is empty", where_);
  }

  TokenId known(std::string_view spelling, std::size_t line) const {
    const auto it = ids_.find(spelling);
    HADAL_CHECK(it != ids_.end(), "{}: merge {} has {}, which is not in model.vocab", where_, line, spelling);
    return it->second;
  }

  void read_merges() {
    dom::array merges;
    HADAL_CHECK(need(model_, "merges").get_array().get(merges) == simdjson::SUCCESS, "{}: model.merges is not a list",
                where_);
    std::string joined;
    std::int32_t rank = 0;
    for (dom::element merge : merges) {
      const auto [left, right] = merge_pair(merge, static_cast<std::size_t>(rank));
      joined.assign(left);
      joined += right;
      const auto line = static_cast<std::size_t>(rank);
      data_.merges.push_back({known(left, line), known(right, line), known(joined, line), rank});
      ++rank;
    }
  }

  // ["a", "b"] or the older "a b".
  std::pair<std::string_view, std::string_view> merge_pair(dom::element merge, std::size_t line) const {
    std::string_view text, left, right;
    if (merge.get_string().get(text) == simdjson::SUCCESS) {
      const std::size_t space = text.find(' ');
      HADAL_CHECK(space != text.npos && text.find(' ', space + 1) == text.npos, "{}: merge {} is not two tokens",
                  where_, line);
      return {text.substr(0, space), text.substr(space + 1)};
    }
    dom::array pair;
    HADAL_CHECK(merge.get_array().get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
                    pair.at(0).get_string().get(left) == simdjson::SUCCESS &&
                    pair.at(1).get_string().get(right) == simdjson::SUCCESS,
                "{}: merge {} is not two tokens", where_, line);
    return {left, right};
  }

  void read_pre_tokenizer() {
    HADAL_CHECK(!is_null("pre_tokenizer"), "{}: pre_tokenizer is missing; byte-level BPE needs one", where_);
    bool byte_level = false;
    add_step(need(root_, "pre_tokenizer"), byte_level, 0);
    HADAL_CHECK(byte_level, "{}: pre_tokenizer has no ByteLevel; only byte-level BPE is supported", where_);
  }

  void add_step(dom::element step, bool& byte_level, int depth) {
    HADAL_CHECK(depth < 8, "{}: pre_tokenizer is nested too deeply", where_);
    const std::string_view type = text_of(step, "type");
    HADAL_CHECK(!byte_level, "{}: pre_tokenizer has {} after ByteLevel, that is not supported", where_, type);
    if (type == "Sequence") {
      dom::array parts;
      HADAL_CHECK(need(step, "pretokenizers").get_array().get(parts) == simdjson::SUCCESS,
                  "{}: pretokenizers is not a list", where_);
      for (dom::element part : parts) add_step(part, byte_level, depth + 1);
    } else if (type == "Split") {
      data_.steps.push_back(split_step(step));
    } else if (type == "Digits") {
      data_.steps.push_back(
          {flag(step, "individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)", SplitBehavior::kIsolated, false});
    } else if (type == "ByteLevel") {
      byte_level = true;
      HADAL_CHECK(!flag(step, "add_prefix_space", false), "{}: ByteLevel with add_prefix_space is not supported",
                  where_);
      if (flag(step, "use_regex", true)) data_.steps.push_back({kGpt2Pattern, SplitBehavior::kIsolated, false});
    } else {
      fail("{}: pre_tokenizer {} is not supported; Sequence, Split, Digits and ByteLevel are", where_, type);
    }
  }

  SplitStep split_step(dom::element step) const {
    const dom::element pattern = need(step, "pattern");
    dom::element literal;
    SplitStep out;
    if (pattern.is_object() && pattern["String"].get(literal) == simdjson::SUCCESS)
      out.pattern = escaped(text_of(pattern, "String"));
    else
      out.pattern = text_of(pattern, "Regex");
    out.invert = flag(step, "invert", false);
    const std::string_view behavior = text_of(step, "behavior");
    if (behavior == "Isolated")
      out.behavior = SplitBehavior::kIsolated;
    else if (behavior == "Removed")
      out.behavior = SplitBehavior::kRemoved;
    else if (behavior == "MergedWithPrevious")
      out.behavior = SplitBehavior::kMergedWithPrevious;
    else if (behavior == "MergedWithNext")
      out.behavior = SplitBehavior::kMergedWithNext;
    else if (behavior == "Contiguous")
      out.behavior = SplitBehavior::kContiguous;
    else
      fail("{}: Split has behavior {}, which is not known", where_, behavior);
    return out;
  }

  static std::string escaped(std::string_view literal) {
    std::string out;
    for (char c : literal) {
      if (std::string_view(R"(\^$.|?*+()[]{}#-&)").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
    return out;
  }

  void read_added_tokens() {
    if (is_null("added_tokens")) return;
    dom::array tokens;
    HADAL_CHECK(root_["added_tokens"].get_array().get(tokens) == simdjson::SUCCESS, "{}: added_tokens is not a list",
                where_);
    for (dom::element t : tokens) {
      AddedToken token;
      token.content = text_of(t, "content");
      HADAL_CHECK(!token.content.empty(), "{}: an added token is empty", where_);
      token.id = id_of(need(t, "id"), token.content);
      for (const AddedToken& other : data_.added)
        HADAL_CHECK(other.content != token.content && other.id != token.id,
                    "{}: added_tokens has {} (id {}) and {} (id {}); each name and id may stand there once", where_,
                    other.content, other.id, token.content, token.id);
      token.single_word = flag(t, "single_word", false);
      token.lstrip = flag(t, "lstrip", false);
      token.rstrip = flag(t, "rstrip", false);
      token.normalized = flag(t, "normalized", true);
      token.special = flag(t, "special", false);
      data_.added.push_back(std::move(token));
    }
  }

  void check_decoder() const {
    if (is_null("decoder")) return;
    const std::string_view type = text_of(need(root_, "decoder"), "type");
    HADAL_CHECK(type == "ByteLevel", "{}: decoder {} is not supported, ByteLevel is", where_, type);
  }

  std::string where_;
  dom::parser parser_;
  dom::element root_, model_;
  std::unordered_map<std::string_view, TokenId> ids_;
  TokenizerData data_;
};

}  // namespace

TokenizerData parse_tokenizer_json(std::string_view text, const std::string& where) {
  return Parser(text, where).run();
}

}  // namespace hadal::tokenizer
