// hadal data build | inspect | export | import
#include <CLI/CLI.hpp>

#include "hadal/checkpoint/model_directory.h"
#include "hadal/cli/byte_progress.h"
#include "hadal/cli/commands.h"
#include "hadal/cli/data_report.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"
#include "hadal/data/exchange.h"
#include "hadal/data/tokenizer_identity.h"

namespace hadal::cli {
namespace {

using tokenizer::Tokenizer;

struct DataCommand {
  std::string directory, model, prefix, sources_file, division, invalid = "fail", bos, eos, shard_size, source, split;
  std::vector<std::string> inputs, sources;
  data::BuildOptions build;
  std::optional<std::uint64_t> document;
  bool json = false, verify = false;
};

std::vector<data::SourceSpec> sources_of(const DataCommand& o, const char* name) {
  std::vector<data::SourceSpec> out;
  if (!o.inputs.empty()) {
    out.push_back({name, {}, {}, {}});
    for (const std::string& input : o.inputs) out.back().inputs.emplace_back(input);
  }
  for (const std::string& source : o.sources) out.push_back(data::parse_source_spec(source));
  if (!o.sources_file.empty())
    for (data::SourceSpec& source : data::read_source_file(o.sources_file)) out.push_back(std::move(source));
  return out;
}

void print_info(const DataCommand& o, const data::DatasetInfo& info) {
  print(o.json ? data::to_json(info).dump(2) + "\n" : data_table(info));
}

int build(DataCommand& o) {
  data::BuildOptions& b = o.build;
  b.sources = sources_of(o, "text");
  if (!o.division.empty()) b.documents.division = data::division_from_name(o.division);
  b.invalid = o.invalid == "skip"      ? data::InvalidText::kSkip
              : o.invalid == "replace" ? data::InvalidText::kReplace
                                       : data::InvalidText::kFail;
  b.eos = o.eos != "off";
  if (!o.bos.empty()) b.bos = o.bos == "on";
  if (!o.shard_size.empty()) b.shard_bytes = checkpoint::parse_size(o.shard_size, "--shard-size");
  const Tokenizer tokenizer = Tokenizer::load(o.model);
  print_info(o, data::build_dataset(tokenizer, o.model, o.directory, b, ByteProgress("building")));
  return 0;
}

int import(DataCommand& o) {
  data::ImportOptions options{.sources = sources_of(o, "imported"),
                              .validation = o.build.validation,
                              .keep_duplicates = o.build.keep_duplicates,
                              .overwrite = o.build.overwrite};
  if (!o.shard_size.empty()) options.shard_bytes = checkpoint::parse_size(o.shard_size, "--shard-size");
  const Tokenizer tokenizer = Tokenizer::load(o.model);
  print_info(o, data::import_megatron(tokenizer, o.model, o.directory, options, ByteProgress("importing")));
  return 0;
}

data::Split split_of(const DataCommand& o) {
  return o.split == "validation" ? data::Split::kValidation : data::Split::kTrain;
}

// The source that was named, or the only one.
std::size_t source_of(const DataCommand& o, const data::DatasetInfo& info) {
  std::string names;
  for (std::size_t i = 0; i < info.sources.size(); ++i) {
    if (info.sources[i].name == o.source) return i;
    names += (i == 0 ? "" : ", ") + info.sources[i].name;
  }
  HADAL_CHECK(o.source.empty(), "{}: has no source {}; there is {}", o.directory, o.source, names);
  HADAL_CHECK(info.sources.size() == 1, "{}: has several sources; name one by --source: {}", o.directory, names);
  return 0;
}

int export_to(const DataCommand& o) {
  const data::Dataset dataset(o.directory);
  const std::string& source = dataset.info().sources[source_of(o, dataset.info())].name;
  const auto documents = data::export_megatron(dataset, source, split_of(o), o.prefix, ByteProgress("exporting"));
  print(fmt::format("{} documents in {}.bin and {}.idx\n", documents, o.prefix, o.prefix));
  return 0;
}

// One document, as a model is shown it.
int show_document(const DataCommand& o, const data::Dataset& dataset) {
  HADAL_CHECK(!o.model.empty(), "data inspect: --document wants --tokenizer, to know what the ids stand for");
  const Tokenizer tokenizer = Tokenizer::load(o.model);
  dataset.check_tokenizer(data::tokenizer_identity(tokenizer), o.model);
  const std::size_t source = source_of(o, dataset.info());
  std::uint64_t number = *o.document;
  for (const auto& shard : dataset.shards(source, split_of(o))) {
    if (number < shard->documents()) {
      std::vector<data::TokenId> ids(shard->begin_of(number + 1) - shard->begin_of(number));
      shard->read(shard->begin_of(number), ids);
      print(tokenizer.decode(ids));
      return 0;
    }
    number -= shard->documents();
  }
  fail("{}: source {} has {} {} documents, number {} was asked for", o.directory, dataset.info().sources[source].name,
       dataset.info().sources[source].split(split_of(o)).documents, data::split_name(split_of(o)), *o.document);
}

int inspect(const DataCommand& o) {
  if (!std::filesystem::is_directory(o.directory)) {
    HADAL_CHECK(!o.document, "{}: --document goes with a data set's directory", o.directory);
    print(data_file_report(o.directory, o.verify, o.json));
    return 0;
  }
  const data::Dataset dataset(o.directory);
  if (o.verify) verify_dataset(dataset);
  if (o.document) return show_document(o, dataset);
  if (!o.model.empty()) dataset.check_tokenizer(data::tokenizer_identity(Tokenizer::load(o.model)), o.model);
  print_info(o, dataset.info());
  if (o.verify && !o.json) print("all bytes are as they were written\n");
  return 0;
}

void add_writing(CLI::App& command, DataCommand& o) {
  command.add_option("--validation", o.build.validation,
                     "Share of the documents that is kept apart, by the hash of their text (default 0), e.g. 0.005");
  command.add_flag("--keep-duplicates", o.build.keep_duplicates,
                   "Keep documents that were there before; otherwise the first copy of a text is the only one");
  command.add_option("--shard-size", o.shard_size, "Size of the files, e.g. 500MB (default 1 GiB)");
  command.add_flag("--overwrite", o.build.overwrite,
                   "Replace the data set that is there, once the new one is complete");
  command.add_flag("--json", o.json, "Statistics as JSON");
}

void add_build(CLI::App& group, Action& action, DataCommand& o) {
  CLI::App* c = group.add_subcommand("build", "Text and JSONL (also gzip, zstd) to token shards");
  c->add_option("OUT_DIR", o.directory, "Directory to make")->required();
  c->add_option("INPUT", o.inputs, "Files, or directories of them: the source \"text\"");
  c->add_option("--tokenizer", o.model, "Model directory whose tokenizer is used")->required();
  c->add_option("--source", o.sources,
                "NAME=PATH[,weight=W][,epochs=E]: a source of its own, its share of the training tokens, and how often "
                "it may be gone through (may be repeated)")
      ->allow_extra_args(false);
  c->add_option("--sources", o.sources_file, "TOML file with a [[source]] table each: name, path, weight, epochs");
  c->add_option("--documents", o.division,
                "What a document is: a file, its lines, what stands between blank-lines, or lines of jsonl (default: "
                "jsonl for .jsonl and .ndjson, else file)")
      ->check(CLI::IsMember({"file", "lines", "blank-lines", "jsonl"}));
  c->add_option("--text-field", o.build.documents.text_field, "Field of a JSONL line that has the text (default text)");
  c->add_option("--invalid-utf8", o.invalid, "Documents that are no UTF-8 text: fail (default), skip or replace")
      ->check(CLI::IsMember({"fail", "skip", "replace"}));
  c->add_option("--fim-rate", o.build.fim_rate,
                "Share of the documents written for fill-in-the-middle, prefix, suffix, middle (default 0.1, as the "
                "technical report)");
  c->add_option("--eos", o.eos, "on (default) or off: an end token behind each document")
      ->check(CLI::IsMember({"on", "off"}));
  c->add_option("--bos", o.bos,
                "on or off: a begin token before each document (default: tokenizer_config.json's "
                "add_bos_token)")
      ->check(CLI::IsMember({"on", "off"}));
  c->add_option("--seed", o.build.seed, "Of what is drawn for fill-in-the-middle (default 0)");
  c->add_option("--threads", o.build.threads, "Threads (default: all cores); they change no byte")
      ->check(CLI::Range(1, 1024));
  add_writing(*c, o);
  c->footer(
      "Example:\n  hadal data build out --tokenizer models/mini books/ --validation 0.005\n  hadal data build out "
      "--tokenizer models/mini --source code=code.jsonl.zst,weight=3 --source books=books/,weight=1,epochs=2");
  c->callback([&] { action = [&o] { return build(o); }; });
}

void add_source_and_split(CLI::App& command, DataCommand& o) {
  command.add_option("--source", o.source, "Which source (default: the only one)");
  command.add_option("--split", o.split, "train (default) or validation")
      ->check(CLI::IsMember({"train", "validation"}));
}

}  // namespace

void add_data(CLI::App& app, Action& action) {
  static DataCommand o;
  CLI::App* group = app.add_subcommand("data", "Training data: text to token shards, and what is in them");
  group->require_subcommand(1);
  group->footer("Example:\n  hadal data build out --tokenizer models/mini books/ --validation 0.005");
  add_build(*group, action, o);

  CLI::App* i = group->add_subcommand("inspect", "What is in a data set, one of its shards or a Megatron .idx");
  i->add_option("PATH", o.directory, "Directory or file")->required();
  i->add_flag("--verify", o.verify, "Read everything and compare it with its checksums");
  i->add_option("--document", o.document, "Print the text of this document, counted from 0, with its special tokens");
  i->add_option("--tokenizer", o.model, "Model directory; refused if the data set was built with another tokenizer");
  add_source_and_split(*i, o);
  i->add_flag("--json", o.json, "As JSON");
  i->footer("Example:\n  hadal data inspect out --document 0 --tokenizer models/mini");
  i->callback([&action] { action = [] { return inspect(o); }; });

  CLI::App* e = group->add_subcommand("export", "A source to Megatron's PREFIX.bin and PREFIX.idx");
  e->add_option("DIR", o.directory, "Data set")->required();
  e->add_option("PREFIX", o.prefix, "Of the two files to make")->required();
  add_source_and_split(*e, o);
  e->footer("Example:\n  hadal data export out books_text_document");
  e->callback([&action] { action = [] { return export_to(o); }; });

  CLI::App* m = group->add_subcommand("import", "Megatron's PREFIX.bin and PREFIX.idx to token shards");
  m->add_option("OUT_DIR", o.directory, "Directory to make")->required();
  m->add_option("PREFIX", o.inputs, "Of pairs of files, which become the source \"imported\"");
  m->add_option("--tokenizer", o.model, "Model directory whose tokenizer the ids are of")->required();
  m->add_option("--source", o.sources, "NAME=PREFIX[,weight=W][,epochs=E]: a source of its own (may be repeated)")
      ->allow_extra_args(false);
  add_writing(*m, o);
  m->footer("Example:\n  hadal data import out --tokenizer models/mini books_text_document");
  m->callback([&action] { action = [] { return import(o); }; });
}

}  // namespace hadal::cli
