#include "hadal/cli/data_report.h"

#include <algorithm>

#include "hadal/cli/byte_progress.h"
#include "hadal/data/megatron.h"

namespace hadal::cli {
namespace {

std::string ratio(std::uint64_t tokens, std::uint64_t bytes) {
  return bytes == 0 ? "-" : fmt::format("{:.4f}", static_cast<double>(tokens) / static_cast<double>(bytes));
}

std::string table_row(const std::string& source, const std::string& split, const data::SplitInfo& s) {
  return fmt::format("{:<20} {:<10} {:>10} {:>13} {:>14} {:>12} {:>10} {:>9} {:>7}\n", source, split, s.documents,
                     s.tokens, s.text_bytes, ratio(s.tokens, s.text_bytes), s.longest, s.fim_documents,
                     s.shards.size());
}

void add_to(data::SplitInfo& sum, const data::SplitInfo& s) {
  sum.documents += s.documents;
  sum.tokens += s.tokens;
  sum.text_bytes += s.text_bytes;
  sum.fim_documents += s.fim_documents;
  sum.longest = std::max(sum.longest, s.longest);
  sum.shards.insert(sum.shards.end(), s.shards.begin(), s.shards.end());
}

std::string optional_number(const char* name, const std::optional<double>& value) {
  return value ? fmt::format(", {} {}", name, *value) : "";
}

io::Json shard_json(const data::Shard& shard) {
  const data::ShardHeader& h = shard.header();
  return {{"kind", "shard"},
          {"tokenizer", io::to_hex(h.tokenizer)},
          {"vocab_size", h.vocab_size},
          {"documents", h.documents},
          {"tokens", h.tokens},
          {"text_bytes", h.text_bytes},
          {"token_bytes", h.token_bytes},
          {"digest", io::to_hex(shard.digest())}};
}

io::Json megatron_json(const data::MegatronIndex& index) {
  return {{"kind", "Megatron"},
          {"dtype", std::string(dtype_name(index.dtype()))},
          {"sequences", index.sequences()},
          {"documents", index.documents()},
          {"tokens", index.tokens()}};
}

std::string lines_of(const io::Json& json) {
  std::string out;
  for (const auto& [key, value] : json.items())
    out += fmt::format("{:<12} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  return out;
}

}  // namespace

std::string data_table(const data::DatasetInfo& info) {
  std::string out = fmt::format("{:<20} {:<10} {:>10} {:>13} {:>14} {:>12} {:>10} {:>9} {:>7}\n", "source", "split",
                                "documents", "tokens", "bytes of text", "tokens/byte", "longest", "in FIM", "shards");
  data::SplitInfo sums[2];
  for (const data::SourceInfo& s : info.sources)
    for (const data::Split split : data::kSplits) {
      if (split == data::Split::kValidation && s.validation.documents == 0) continue;
      out += table_row(split == data::Split::kTrain ? s.name : "", data::split_name(split), s.split(split));
      add_to(sums[static_cast<int>(split)], s.split(split));
    }
  if (info.sources.size() > 1)
    for (const data::Split split : data::kSplits)
      if (const data::SplitInfo& sum = sums[static_cast<int>(split)]; sum.documents > 0)
        out += table_row(split == data::Split::kTrain ? "all" : "", data::split_name(split), sum);
  for (const data::SourceInfo& s : info.sources)
    out += fmt::format("{}: {} file{}; documents read {}, duplicates {}, empty {}, not UTF-8 {}{}{}\n", s.name, s.files,
                       s.files == 1 ? "" : "s", s.documents_read, s.duplicates, s.empty, s.invalid,
                       optional_number("weight", s.weight), optional_number("epochs", s.epochs));
  out += fmt::format("tokenizer {}, ids below {}, {}, {}\n", io::to_hex(info.tokenizer).substr(0, 16), info.vocab_size,
                     info.eos ? fmt::format("documents end with {}", *info.eos) : "no end tokens",
                     info.bos ? fmt::format("begin with {}", *info.bos) : "no begin tokens");
  return out;
}

std::string data_file_report(const std::filesystem::path& path, bool verify, bool json) {
  io::Json report;
  if (path.extension() == ".idx" || path.extension() == ".bin") {
    report = megatron_json(data::MegatronDataset(path).index());
  } else {
    const data::Shard shard(path);
    if (verify) shard.verify();
    report = shard_json(shard);
  }
  return json ? report.dump(2) + "\n" : lines_of(report);
}

void verify_dataset(const data::Dataset& dataset) {
  std::uint64_t total = 0, done = 0;
  const auto for_each = [&](const auto& body) {
    for (std::size_t i = 0; i < dataset.info().sources.size(); ++i)
      for (const data::Split split : data::kSplits)
        for (const auto& shard : dataset.shards(i, split)) body(*shard);
  };
  for_each([&](const data::Shard& shard) { total += shard.header().data_bytes(); });
  const ByteProgress progress("verifying");
  for_each([&](const data::Shard& shard) {
    if (!progress(done, total)) throw Interrupted("data inspect: interrupted");
    shard.verify();
    done += shard.header().data_bytes();
  });
}

}  // namespace hadal::cli
