#include "hadal/data/dataset.h"

#include <cmath>
#include <cstdint>

namespace hadal::data {
namespace {

using io::Json;

constexpr const char* kFile = "dataset.json";
constexpr const char* kFormat = "hadal-dataset";
constexpr int kDatasetVersion = 1;

Json to_json(const SplitInfo& s) {
  Json shards = Json::array();
  for (const ShardEntry& e : s.shards)
    shards.push_back(
        {{"file", e.file}, {"digest", io::to_hex(e.digest)}, {"documents", e.documents}, {"tokens", e.tokens}});
  return {{"documents", s.documents},         {"tokens", s.tokens},   {"text_bytes", s.text_bytes},
          {"fim_documents", s.fim_documents}, {"longest", s.longest}, {"shards", std::move(shards)}};
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json to_json(const SourceInfo& s) {
  return {{"name", s.name},
          {"weight", or_null(s.weight)},
          {"epochs", or_null(s.epochs)},
          {"files", s.files},
          {"documents_read", s.documents_read},
          {"duplicates", s.duplicates},
          {"empty", s.empty},
          {"invalid", s.invalid},
          {"train", to_json(s.train)},
          {"validation", to_json(s.validation)}};
}

// An object whose fields are asked for by name; errors say which one is wrong.
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    HADAL_CHECK(json_.is_object(), "{}: an object was expected", where_);
  }

  const std::string& where() const { return where_; }
  const Json& at(const char* name) const {
    const auto it = json_.find(name);
    HADAL_CHECK(it != json_.end(), "{}: {} is missing", where_, name);
    return *it;
  }
  Fields object(const char* name) const { return Fields(at(name), where_ + "." + name); }
  std::uint64_t count(const char* name) const {
    const Json& value = at(name);
    HADAL_CHECK(value.is_number_unsigned(), "{}: {} is {}, a whole number was expected", where_, name, value.dump());
    return value.get<std::uint64_t>();
  }
  std::string text(const char* name) const {
    const Json& value = at(name);
    HADAL_CHECK(value.is_string(), "{}: {} is {}, text was expected", where_, name, value.dump());
    return value.get<std::string>();
  }
  io::Digest digest(const char* name) const {
    const auto value = io::digest_from_hex(text(name));
    HADAL_CHECK(value, "{}: {} is {}, 64 hexadecimal digits were expected", where_, name, at(name).dump());
    return *value;
  }
  std::optional<double> positive(const char* name) const {
    const Json& value = at(name);
    if (value.is_null()) return std::nullopt;
    HADAL_CHECK(value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() > 0,
                "{}: {} is {}, a number above 0 was expected", where_, name, value.dump());
    return value.get<double>();
  }
  std::optional<TokenId> token(const char* name, std::uint32_t vocab_size) const {
    if (at(name).is_null()) return std::nullopt;
    const std::uint64_t id = count(name);
    HADAL_CHECK(id < vocab_size, "{}: {} is {}, ids are below {}", where_, name, id, vocab_size);
    return static_cast<TokenId>(id);
  }
  const Json& list(const char* name) const {
    const Json& value = at(name);
    HADAL_CHECK(value.is_array(), "{}: {} is no list", where_, name);
    return value;
  }

 private:
  const Json& json_;
  std::string where_;
};

SplitInfo parse_split(const Fields& f) {
  SplitInfo s;
  s.documents = f.count("documents");
  s.tokens = f.count("tokens");
  s.text_bytes = f.count("text_bytes");
  s.fim_documents = f.count("fim_documents");
  s.longest = f.count("longest");
  for (const Json& json : f.list("shards")) {
    const Fields e(json, f.where() + ".shards");
    ShardEntry entry{e.text("file"), e.digest("digest"), e.count("documents"), e.count("tokens")};
    // In this directory, wherever the document came from.
    const bool plain = !entry.file.empty() && entry.file.find('/') == entry.file.npos && entry.file[0] != '.';
    HADAL_CHECK(plain, "{}: {} is no name of a file in the directory", e.where(), entry.file);
    s.shards.push_back(std::move(entry));
  }
  return s;
}

SourceInfo parse_source(const Fields& f) {
  SourceInfo s;
  s.name = f.text("name");
  s.weight = f.positive("weight");
  s.epochs = f.positive("epochs");
  s.files = f.count("files");
  s.documents_read = f.count("documents_read");
  s.duplicates = f.count("duplicates");
  s.empty = f.count("empty");
  s.invalid = f.count("invalid");
  s.train = parse_split(f.object("train"));
  s.validation = parse_split(f.object("validation"));
  return s;
}

void check_sum(const SplitInfo& s, const std::string& where) {
  std::uint64_t documents = 0, tokens = 0;
  for (const ShardEntry& e : s.shards) documents += e.documents, tokens += e.tokens;
  HADAL_CHECK(documents == s.documents && tokens == s.tokens,
              "{}: its shards have {} documents and {} tokens, {} and {} are stated", where, documents, tokens,
              s.documents, s.tokens);
}

}  // namespace

const char* split_name(Split split) {
  return split == Split::kTrain ? "train" : "validation";
}

Json to_json(const DatasetInfo& info) {
  Json sources = Json::array();
  for (const SourceInfo& s : info.sources) sources.push_back(to_json(s));
  return {{"format", kFormat},
          {"version", kDatasetVersion},
          {"tokenizer", io::to_hex(info.tokenizer)},
          {"vocab_size", info.vocab_size},
          {"eos", or_null(info.eos)},
          {"bos", or_null(info.bos)},
          {"options", info.options},
          {"sources", std::move(sources)}};
}

DatasetInfo parse_dataset_info(std::string_view text, const std::string& where) {
  const Json json = io::parse_json(text, where);
  const Fields f(json, where);
  HADAL_CHECK(json.value("format", Json()) == kFormat, "{}: is not what `hadal data build` writes", where);
  HADAL_CHECK(f.count("version") == kDatasetVersion, "{}: has version {} of the format, this program reads {}", where,
              f.count("version"), kDatasetVersion);
  DatasetInfo info;
  info.tokenizer = f.digest("tokenizer");
  const std::uint64_t vocab_size = f.count("vocab_size");
  HADAL_CHECK(vocab_size > 0 && vocab_size <= INT32_MAX, "{}: vocab_size is {}", where, vocab_size);
  info.vocab_size = static_cast<std::uint32_t>(vocab_size);
  info.eos = f.token("eos", info.vocab_size);
  info.bos = f.token("bos", info.vocab_size);
  info.options = f.at("options");
  for (const Json& source : f.list("sources")) {
    info.sources.push_back(parse_source(Fields(source, where + ": sources")));
    const SourceInfo& s = info.sources.back();
    for (const Split split : kSplits) check_sum(s.split(split), where + ": " + s.name + "." + split_name(split));
  }
  HADAL_CHECK(!info.sources.empty(), "{}: has no sources", where);
  return info;
}

bool Dataset::exists(const std::filesystem::path& directory) {
  std::error_code status;
  return std::filesystem::exists(directory / kFile, status);
}

Dataset::Dataset(const std::filesystem::path& directory) : directory_(directory) {
  HADAL_CHECK(std::filesystem::is_directory(directory), "{}: there is no such directory", directory.string());
  HADAL_CHECK(exists(directory), "{}: has no {}; `hadal data build` makes data sets", directory.string(), kFile);
  const std::string where = (directory / kFile).string();
  info_ = parse_dataset_info(io::read_text_file(where, std::size_t{1} << 28), where);
  io::Sha256 sum;
  for (const SourceInfo& source : info_.sources) {
    auto& splits = shards_.emplace_back();
    sum.text(source.name);
    for (const Split split : kSplits) {
      auto& shards = splits.emplace_back();
      sum.number(source.split(split).shards.size());
      for (const ShardEntry& entry : source.split(split).shards) {
        shards.push_back(std::make_unique<Shard>(directory / entry.file));
        const Shard& shard = *shards.back();
        const ShardHeader& h = shard.header();
        HADAL_CHECK(h.tokenizer == info_.tokenizer && h.vocab_size == info_.vocab_size,
                    "{}: its ids are those of another tokenizer than {}'s", shard.path().string(), where);
        HADAL_CHECK(shard.digest() == entry.digest && h.documents == entry.documents && h.tokens == entry.tokens,
                    "{}: is another file than the one {} names; build it again", shard.path().string(), where);
        sum.digest(entry.digest);
      }
    }
  }
  digest_ = sum.finish();
}

void Dataset::check_tokenizer(const io::Digest& identity, const std::string& model) const {
  HADAL_CHECK(identity == info_.tokenizer,
              "{}: was built with another tokenizer than {}'s, its ids stand for other text; build it again with "
              "--tokenizer {}",
              directory_.string(), model, model);
}

}  // namespace hadal::data
