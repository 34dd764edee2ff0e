#include "hadal/train/train_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "hadal/core/error.h"
#include "hadal/core/suggestion.h"

namespace hadal::train {
namespace {

using io::Json;

// A kind of value: what it is called, JSON to it and back.
void set_value(const Json& json, std::string& to) {
  HADAL_CHECK(json.is_string(), "text was expected, not {}", json.dump());
  to = json.get<std::string>();
}
void set_value(const Json& json, bool& to) {
  HADAL_CHECK(json.is_boolean(), "true or false was expected, not {}", json.dump());
  to = json.get<bool>();
}
void set_value(const Json& json, double& to) {
  HADAL_CHECK(json.is_number() && std::isfinite(json.get<double>()), "a number was expected, not {}", json.dump());
  to = json.get<double>();
}
// 469e9 is as whole as 469000000000.
void set_value(const Json& json, std::uint64_t& to) {
  constexpr double kMost = 9e15;
  const double number = json.is_number() ? json.get<double>() : -1;
  HADAL_CHECK(number >= 0 && number <= kMost && number == std::floor(number), "a whole number was expected, not {}",
              json.dump());
  to = static_cast<std::uint64_t>(number);
}
void set_value(const Json& json, Index& to) {
  std::uint64_t number = 0;
  set_value(json, number);
  to = static_cast<Index>(number);
}
void set_value(const Json& json, int& to) {
  std::uint64_t number = 0;
  set_value(json, number);
  HADAL_CHECK(number <= 1024, "at most 1024 was expected, not {}", number);
  to = static_cast<int>(number);
}
void set_value(const Json& json, std::vector<std::string>& to) {
  const auto is_text = [](const Json& j) { return j.is_string(); };
  HADAL_CHECK(json.is_array() && std::all_of(json.begin(), json.end(), is_text), "a list of texts was expected, not {}",
              json.dump());
  to = json.get<std::vector<std::string>>();
}
void set_value(const Json& json, TokenTable& to) {
  to.entries.clear();
  if (json.is_number()) return to.entries.push_back({0, json.get<double>()});
  HADAL_CHECK(json.is_array(), "a number or a list of [tokens, value] was expected, not {}", json.dump());
  for (const Json& pair : json) {
    HADAL_CHECK(pair.is_array() && pair.size() == 2 && pair[0].is_number() && pair[1].is_number(),
                "[tokens, value] was expected, not {}", pair.dump());
    TokenTable::Entry entry{0, pair[1].get<double>()};
    set_value(pair[0], entry.tokens);
    HADAL_CHECK(to.entries.empty() ? entry.tokens == 0 : entry.tokens > to.entries.back().tokens,
                "{}: the first entry stands at 0 tokens, and each behind the one before", json.dump());
    to.entries.push_back(entry);
  }
}
template <class T>
void set_value(const Json& json, std::optional<T>& to) {
  if (json.is_null()) return to.reset();
  set_value(json, to.emplace());
}

template <class T>
Json value_of(const T& from) {
  return from;
}
template <class T>
Json value_of(const std::optional<T>& from) {
  return from ? Json(*from) : Json();
}
// 8, not 8.0.
Json number(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? Json(static_cast<Index>(value)) : Json(value);
}
Json value_of(const TokenTable& from) {
  if (from.entries.empty()) return nullptr;
  if (from.entries.size() == 1) return number(from.entries[0].value);
  Json list = Json::array();
  for (const auto& e : from.entries) list.push_back({e.tokens, number(e.value)});
  return list;
}

std::string kind_of(const std::string&) { return "text"; }
std::string kind_of(const bool&) { return "true or false"; }
std::string kind_of(const double&) { return "number"; }
std::string kind_of(const std::uint64_t&) { return "whole number"; }
std::string kind_of(const Index&) { return "whole number"; }
std::string kind_of(const int&) { return "whole number"; }
std::string kind_of(const std::vector<std::string>&) { return "list of texts"; }
std::string kind_of(const TokenTable&) { return "number or list of [tokens, value]"; }
template <class T>
std::string kind_of(const std::optional<T>&) {
  return kind_of(T{});
}

constexpr OnChange kAccepted = OnChange::kAccepted, kRefused = OnChange::kRefused;

// `Member`: a captureless lambda from a TrainConfig to the field's place in it.
template <class Member>
Field field(std::string key, Member, std::string report, OnChange on_change, std::string why, std::string text) {
  Field f{std::move(key), {}, std::move(report), std::move(text), on_change, std::move(why), nullptr, nullptr};
  TrainConfig defaults;
  f.kind = kind_of(Member{}(defaults));
  f.set = [](TrainConfig& c, const Json& json) { set_value(json, Member{}(c)); };
  f.get = [](const TrainConfig& c) { return value_of(Member{}(const_cast<TrainConfig&>(c))); };
  return f;
}

#define HADAL_FIELD(key, member, ...) field(key, [](TrainConfig& c) -> auto& { return c.member; }, __VA_ARGS__)

constexpr const char* kBegan = "the run began with it";
constexpr const char* kOtherData = "the run would go on with other data";
constexpr const char* kFromHere = "it holds from here on";

std::vector<Field> make_fields() {
  return {
      HADAL_FIELD("run_dir", run_dir, "", kAccepted, "", "Directory of the run: log, checkpoints, report and the final model. Paths are relative to where the command runs."),
      HADAL_FIELD("seed", seed, "", kRefused, kOtherData, "Seed of the initial weights and of the order of the data."),
      HADAL_FIELD("threads", threads, "", kAccepted, "it changes no bit", "Threads; 0: all cores that this process may use."),
      HADAL_FIELD("precision", precision, "fp8, with bf16 and f32", kRefused, kBegan, "f32, or bf16: what linears multiply is rounded to BF16; master weights, gradients and sums stay f32."),
      HADAL_FIELD("recompute", recompute, "true", kAccepted, "it changes no bit", "Make norms, SwiGLU and MLA's up-projections again in the backward pass (report 3.2.3): less memory, the same bits."),

      HADAL_FIELD("model.config", model.config, "61 layers, hidden 7168", kAccepted, "what is in it is the same", "config.json of the model, or a directory with one."),
      HADAL_FIELD("model.init_from", model.init_from, "", kRefused, kBegan, "Model directory, of any stored format, whose weights are where training begins; instead of model.config."),
      HADAL_FIELD("model.init_std", model.init_std, "0.006", kRefused, kBegan, "Standard deviation of the initial matrices, as of `hadal init --std`; gains begin at 1, routing biases at 0."),
      HADAL_FIELD("model.init_seed", model.init_seed, "", kRefused, kBegan, "Seed of the initial weights, as of `hadal init --seed`; not set: seed."),
      HADAL_FIELD("model.tokenizer", model.tokenizer, "byte-level BPE, 128K", kAccepted, "its ids are the same", "Directory of the tokenizer; not set: that of the model."),

      HADAL_FIELD("data.directory", data.directory, "14.8T tokens", kAccepted, "the data in it is the same", "Data set that `hadal data build` made."),
      HADAL_FIELD("data.text", data.text, "", kRefused, kOtherData, "Instead of it: text, JSONL, gzip or zstd files and directories, made into a data set in the run's directory."),
      HADAL_FIELD("data.documents", data.documents, "", kRefused, kOtherData, "Of data.text, what a document is: file, lines, blank-lines or jsonl; not set: lines of .jsonl and .ndjson, else the file."),
      HADAL_FIELD("data.validation", data.validation, "", kRefused, kOtherData, "Of data.text: share of the documents kept apart, by the hash of their text."),
      HADAL_FIELD("data.fim_rate", data.fim_rate, "0.1", kRefused, kOtherData, "Of data.text: share of the documents written for fill-in-the-middle."),
      HADAL_FIELD("data.keep_duplicates", data.keep_duplicates, "", kRefused, kOtherData, "Of data.text: keep documents that were there before."),
      HADAL_FIELD("data.epochs", data.epochs, "", kAccepted, kFromHere, "How often the data may be gone through; training ends with the last. Not set: as often as the run takes."),
      HADAL_FIELD("data.within_documents", data.within_documents, "false", kRefused, kOtherData, "Attention and MTP stay within a document, whose last token predicts nothing; otherwise they see the whole sequence."),

      HADAL_FIELD("batch.sequences", batch.sequences, "3072 to 15360 over 469B tokens", kRefused, kOtherData, "Sequences of a step, by consumed tokens."),
      HADAL_FIELD("batch.sequence_length", batch.sequence_length, "4096", kRefused, kOtherData, "Tokens of a sequence, by consumed tokens."),
      HADAL_FIELD("batch.micro_batch", batch.micro_batch, "", kAccepted, "sums of gradients are rounded elsewhere from here on", "Sequences computed at a time; gradients of a step are summed. 0: all."),

      HADAL_FIELD("length.tokens", length.tokens, "14.8e12", kAccepted, "what of the schedules is not set moves with it", "Tokens to train on."),
      HADAL_FIELD("length.steps", length.steps, "", kAccepted, "what of the schedules is not set moves with it", "Instead of it: optimiser steps."),

      HADAL_FIELD("learning_rate.peak", learning_rate.peak, "2.2e-4", kAccepted, kFromHere, "Learning rate after the warm-up."),
      HADAL_FIELD("learning_rate.low", learning_rate.low, "2.2e-5", kAccepted, kFromHere, "Where the cosine ends; not set: peak / 10."),
      HADAL_FIELD("learning_rate.last", learning_rate.last, "7.3e-6", kAccepted, kFromHere, "Of the run's end; not set: peak * 7.3 / 220."),
      HADAL_FIELD("learning_rate.warmup_steps", learning_rate.warmup_steps, "2000", kAccepted, kFromHere, "Steps over which it rises from 0."),
      HADAL_FIELD("learning_rate.constant_until", learning_rate.constant_until, "10e12", kAccepted, kFromHere, "Tokens until which it is peak; not set: 10 / 14.8 of the run."),
      HADAL_FIELD("learning_rate.cosine_until", learning_rate.cosine_until, "14.3e12", kAccepted, kFromHere, "Tokens at which the cosine is low; not set: 14.3 / 14.8 of the run."),
      HADAL_FIELD("learning_rate.low_until", learning_rate.low_until, "14.633e12", kAccepted, kFromHere, "Tokens until which it stays low; not set: 14.633 / 14.8 of the run."),

      HADAL_FIELD("objective.lambda", objective.lambda, "0.3, from 10e12 tokens 0.1", kAccepted, kFromHere, "Weight of the MTP losses, by consumed tokens; not set: as the report, by the same shares of the run."),
      HADAL_FIELD("objective.alpha", objective.alpha, "1e-4", kAccepted, kFromHere, "Weight of the sequence-wise balance loss."),
      HADAL_FIELD("objective.gamma", objective.gamma, "0.001, from 14.3e12 tokens 0", kAccepted, kFromHere, "Speed of the routing bias, by consumed tokens; not set: as the report, by the same shares of the run."),

      HADAL_FIELD("optimizer.kind", optimizer.kind, "adamw", kRefused, "its state would mean nothing", "adamw or muon."),
      HADAL_FIELD("optimizer.beta1", optimizer.beta1, "0.9", kAccepted, kFromHere, "Of AdamW."),
      HADAL_FIELD("optimizer.beta2", optimizer.beta2, "0.95", kAccepted, kFromHere, "Of AdamW."),
      HADAL_FIELD("optimizer.eps", optimizer.eps, "", kAccepted, kFromHere, "Of AdamW."),
      HADAL_FIELD("optimizer.momentum", optimizer.momentum, "", kAccepted, kFromHere, "Of Muon, which is for the matrices inside the layers; embedding, head and gains are AdamW's."),
      HADAL_FIELD("optimizer.qk_clip", optimizer.qk_clip, "", kAccepted, kFromHere, "Largest attention score of a head before its query and key weights are scaled down (Kimi K2: 100); 0: none."),
      HADAL_FIELD("optimizer.weight_decay", optimizer.weight_decay, "0.1", kAccepted, kFromHere, "Of matrices; gains and biases have none."),
      HADAL_FIELD("optimizer.moments", optimizer.moments, "bf16", kRefused, "its state is of that format", "Number format of the moments: f32 or bf16."),
      HADAL_FIELD("optimizer.clip", optimizer.clip, "1.0", kAccepted, kFromHere, "Largest norm of all gradients together; 0: any."),

      HADAL_FIELD("ema.decay", ema_decay, "kept, its decay is not given", kRefused, kBegan, "Of an average of the weights over steps, kept beside them (report 3.2.2); 0: none."),

      HADAL_FIELD("log.every", log.every, "", kAccepted, "", "Steps between lines of progress in a pipe; log.jsonl has every step."),
      HADAL_FIELD("log.validation_every", log.validation_every, "", kAccepted, "", "Steps between measurements on the validation split; 0: at the end only."),
      HADAL_FIELD("log.validation_sequences", log.validation_sequences, "", kAccepted, "", "Sequences of the validation split that are measured, at most; 0: none."),
      HADAL_FIELD("log.samples_every", log.samples_every, "", kAccepted, "", "Steps between samples; 0: at the end only."),
      HADAL_FIELD("log.sample_prompts", log.sample_prompts, "", kAccepted, "", "Texts that samples go on from."),
      HADAL_FIELD("log.sample_tokens", log.sample_tokens, "", kAccepted, "", "Tokens of a sample, at most."),

      HADAL_FIELD("checkpoint.every_steps", checkpoint.every_steps, "", kAccepted, "", "Steps between checkpoints; 0: by time alone."),
      HADAL_FIELD("checkpoint.every_minutes", checkpoint.every_minutes, "", kAccepted, "", "Minutes between checkpoints; 0: by steps alone."),
      HADAL_FIELD("checkpoint.keep_last", checkpoint.keep_last, "", kAccepted, "", "Checkpoints that are kept, the newest ones; 0: all."),
      HADAL_FIELD("checkpoint.keep_every", checkpoint.keep_every, "", kAccepted, "", "Beside them, those whose step is a multiple of this; 0: none."),

      HADAL_FIELD("spikes.z_score", spikes.z_score, "no spike in the whole run", kAccepted, kFromHere, "A loss that is so many standard deviations above the last ones' mean is a spike, as is one that is not finite; its batch is skipped, and after two in a row training goes back to the last checkpoint and on with the data behind them. 0: only what is not finite."),
      HADAL_FIELD("spikes.window", spikes.window, "", kAccepted, kFromHere, "How many losses that mean is of."),
      HADAL_FIELD("spikes.most", spikes.most, "", kAccepted, kFromHere, "Spikes after which training stops."),

      HADAL_FIELD("export.average", export_average, "", kAccepted, "", "The final model is the average of the weights, with ema.decay."),
      HADAL_FIELD("export.dtype", export_dtype, "fp8", kAccepted, "", "Format of the final model: f32, bf16 or fp8."),
  };
}
#undef HADAL_FIELD

const Field* find_field(const std::string& key) {
  for (const Field& f : train_fields())
    if (f.key == key) return &f;
  return nullptr;
}

std::string unknown_field(const std::string& where, const std::string& key) {
  std::vector<std::string> keys;
  for (const Field& f : train_fields()) keys.push_back(f.key);
  return fmt::format("{}: {} is not a field{}; `hadal train --explain` lists them", where, key,
                     suggestion(key, keys));
}

Json json_of(const toml::node& node) {
  if (const auto* s = node.as_string()) return s->get();
  if (const auto* b = node.as_boolean()) return b->get();
  if (const auto* i = node.as_integer()) return i->get();
  if (const auto* d = node.as_floating_point()) return d->get();
  if (const auto* list = node.as_array()) {
    Json out = Json::array();
    for (const toml::node& one : *list) out.push_back(json_of(one));
    return out;
  }
  return "(a table or a date)";
}

class Reading {
 public:
  void set(const std::string& where, const std::string& key, const Json& value) {
    const Field* f = find_field(key);
    if (!f) return faults.push_back(unknown_field(where, key));
    try {
      f->set(config, value);
    } catch (const Error& e) {
      faults.push_back(fmt::format("{}: {}: {}", where, key, e.what()));
    }
  }
  void read(const toml::table& table, const std::string& file, const std::string& prefix) {
    for (const auto& [name, node] : table) {
      const std::string key = prefix + std::string(name.str());
      const std::string where = fmt::format("{}, line {}", file, node.source().begin.line);
      if (const auto* section = node.as_table(); section && !find_field(key))
        read(*section, file, key + ".");
      else
        set(where, key, json_of(node));
    }
  }
  // "key=value": the value as in the file; what is none there is text.
  void read_setting(const std::string& setting) {
    const std::size_t equals = setting.find('=');
    if (equals == setting.npos || equals == 0)
      return faults.push_back(fmt::format("--set: \"{}\" is not key=value", setting));
    const std::string key = setting.substr(0, equals), value = setting.substr(equals + 1);
    Json json = value;
    try {
      json = json_of(*toml::parse("value = " + value).get("value"));
    } catch (const toml::parse_error&) {
    }
    set("--set", key, json);
  }

  TrainConfig config;
  std::vector<std::string> faults;
};

void check_values(const TrainConfig& c, const std::string& where, std::vector<std::string>& faults) {
  const auto expect = [&](bool good, const std::string& sentence) {
    if (!good) faults.push_back(where + ": " + sentence);
  };
  const auto positive = [&](const TokenTable& table, const char* key, double least) {
    for (const auto& e : table.entries)
      expect(e.value >= least && (least < 1 || e.value == std::floor(e.value)),
             fmt::format("{}: {} is not {}", key, e.value, least < 1 ? "0 or more" : "a whole number above 0"));
  };
  expect(!c.run_dir.empty(), "run_dir is missing: where log, checkpoints and the final model go");
  expect(c.model.config.empty() != c.model.init_from.empty(),
         "one of model.config and model.init_from must be set, and not both: a config.json to begin anew, or a model to go on from");
  expect(c.data.directory.empty() != c.data.text.empty(),
         "one of data.directory and data.text must be set, and not both: a data set of `hadal data build`, or text files");
  expect(c.length.tokens.has_value() != c.length.steps.has_value(),
         "one of length.tokens and length.steps must be set: how long the run is");
  expect(c.length.tokens.value_or(1) > 0 && c.length.steps.value_or(1) > 0, "length: 0 is no length");
  expect(!c.batch.sequences.entries.empty(), "batch.sequences is missing: sequences of a step");
  expect(!c.batch.sequence_length.entries.empty(), "batch.sequence_length is missing: tokens of a sequence");
  positive(c.batch.sequences, "batch.sequences", 1);
  positive(c.batch.sequence_length, "batch.sequence_length", 1);
  const auto most = [](const TokenTable& table) {
    double value = 0;
    for (const auto& e : table.entries) value = std::max(value, e.value);
    return value;
  };
  constexpr double kMostTokens = 1 << 30;  // of a step: the report's largest has 63M
  expect(most(c.batch.sequences) * most(c.batch.sequence_length) <= kMostTokens,
         fmt::format("batch: {} sequences of {} tokens are more than the {} tokens that a step may have",
                     most(c.batch.sequences), most(c.batch.sequence_length), kMostTokens));
  positive(c.objective.lambda, "objective.lambda", 0);
  positive(c.objective.gamma, "objective.gamma", 0);
  expect(c.model.init_std > 0, "model.init_std must be above 0");
  expect(c.learning_rate.peak > 0, "learning_rate.peak must be above 0");
  expect(c.learning_rate.low.value_or(0) >= 0 && c.learning_rate.last.value_or(0) >= 0,
         "learning_rate: low and last are 0 or more");
  expect(c.data.validation >= 0 && c.data.validation < 1, "data.validation is at least 0 and below 1");
  expect(c.data.fim_rate >= 0 && c.data.fim_rate <= 1, "data.fim_rate is between 0 and 1");
  expect(c.data.epochs.value_or(1) > 0, "data.epochs must be above 0");
  expect(c.precision == "f32" || c.precision == "bf16",
         fmt::format("precision: {} is not known; f32 and bf16 are", c.precision));
  expect(c.optimizer.kind == "adamw" || c.optimizer.kind == "muon",
         fmt::format("optimizer.kind: {} is not known; adamw and muon are", c.optimizer.kind));
  expect(c.optimizer.moments == "f32" || c.optimizer.moments == "bf16",
         fmt::format("optimizer.moments: {} is not known; f32 and bf16 are", c.optimizer.moments));
  expect(c.optimizer.clip >= 0 && c.optimizer.eps > 0 && c.optimizer.weight_decay >= 0 && c.objective.alpha >= 0,
         "optimizer.clip, optimizer.weight_decay and objective.alpha are 0 or more, optimizer.eps above 0");
  for (const double beta : {c.optimizer.beta1, c.optimizer.beta2, c.optimizer.momentum, c.ema_decay})
    expect(beta >= 0 && beta < 1,
           "optimizer.beta1, optimizer.beta2, optimizer.momentum and ema.decay are at least 0 and below 1");
  expect(c.optimizer.qk_clip >= 0, "optimizer.qk_clip must be 0 or more");
  expect(!c.export_average || c.ema_decay > 0, "export.average goes with ema.decay");
  expect(c.log.every > 0, "log.every must be above 0");
  expect(c.checkpoint.every_minutes >= 0, "checkpoint.every_minutes must be 0 or more");
  expect(c.spikes.z_score >= 0 && c.spikes.window >= 2, "spikes: z_score is 0 or more, window 2 or more");
  expect(c.export_dtype == "f32" || c.export_dtype == "bf16" || c.export_dtype == "fp8",
         fmt::format("export.dtype: {} is not known; f32, bf16 and fp8 are", c.export_dtype));
}

}  // namespace

std::span<const Field> train_fields() {
  static const std::vector<Field> fields = make_fields();
  return fields;
}

TrainConfig parse_train_config(std::string_view text, const std::string& where,
                               std::span<const std::string> settings) {
  Reading reading;
  try {
    reading.read(toml::parse(text, where), where, "");
  } catch (const toml::parse_error& e) {
    fail("{}, line {}: not valid TOML: {}", where, e.source().begin.line, e.description());
  }
  for (const std::string& setting : settings) reading.read_setting(setting);
  if (reading.faults.empty()) check_values(reading.config, where, reading.faults);
  if (!reading.faults.empty()) throw Error(fmt::format("{}", fmt::join(reading.faults, "\n")));
  return reading.config;
}

TrainConfig read_train_config(const std::filesystem::path& path, std::span<const std::string> settings) {
  return parse_train_config(io::read_text_file(path, std::size_t{1} << 20), path.string(), settings);
}

Json to_json(const TrainConfig& config) {
  Json out = Json::object();
  for (const Field& f : train_fields()) out[f.key] = f.get(config);
  return out;
}

std::string to_toml(const TrainConfig& config) {
  std::string text, section;
  for (const Field& f : train_fields()) {
    const Json value = f.get(config);
    if (value.is_null()) continue;
    const std::size_t dot = f.key.find('.');
    const std::string own = dot == f.key.npos ? "" : f.key.substr(0, dot);
    if (own != section) text += fmt::format("\n[{}]\n", own);
    section = own;
    // Texts, numbers and lists of JSON are TOML's too.
    text += fmt::format("{} = {}\n", f.key.substr(dot == f.key.npos ? 0 : dot + 1), value.dump());
  }
  return text;
}

std::string explain_train_config(const TrainConfig* config) {
  const auto show = [](const Json& value) { return value.is_null() ? std::string("not set") : value.dump(); };
  std::string text, section;
  for (const Field& f : train_fields()) {
    const std::size_t dot = f.key.find('.');
    const std::string own = dot == f.key.npos ? "" : f.key.substr(0, dot);
    if (own != section) text += fmt::format("\n[{}]\n", own);
    section = own;
    text += fmt::format("{}", dot == f.key.npos ? f.key : f.key.substr(dot + 1));
    if (config) text += fmt::format(" = {}", show(f.get(*config)));
    text += fmt::format("  ({}; default {}{})\n    {}\n", f.kind, show(f.get(TrainConfig{})),
                        f.report.empty() ? "" : "; report: " + f.report, f.text);
  }
  return text;
}

std::vector<std::string> accept_changes(const Json& saved, const TrainConfig& now) {
  std::vector<std::string> accepted, refused;
  for (const Field& f : train_fields()) {
    const auto it = saved.find(f.key);
    const Json value = f.get(now);
    // What an older program did not know had its default.
    const Json before = it == saved.end() ? f.get(TrainConfig{}) : *it;
    if (before == value || f.key == "run_dir") continue;
    const std::string change = fmt::format("{}: was {}, is {}", f.key, before.dump(), value.dump());
    if (f.on_change == OnChange::kRefused)
      refused.push_back(fmt::format("{}: a run that is resumed cannot change it ({}); set it back, or name another "
                                    "run_dir",
                                    change, f.why));
    else
      accepted.push_back(change + (f.why.empty() ? "" : "; " + f.why));
  }
  if (!refused.empty()) throw Error(fmt::format("{}", fmt::join(refused, "\n")));
  return accepted;
}

}  // namespace hadal::train
