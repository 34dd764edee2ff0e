#include "hadal/train/log_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>

#include "hadal/core/error.h"
#include "hadal/core/log.h"
#include "hadal/io/json.h"

namespace hadal::train {
namespace {

namespace fs = std::filesystem;
using io::Json;

Json to_json(const LayerLoad& l) {
  return {{"layer", l.layer},         {"max_vio", l.max_vio}, {"bias_low", l.bias_low},
          {"bias_high", l.bias_high}, {"dead", l.dead},       {"counts", l.counts}};
}

Json to_json(const std::vector<LayerLoad>& load) {
  Json out = Json::array();
  for (const LayerLoad& l : load) out.push_back(to_json(l));
  return out;
}

Json to_json(const StepRecord& r) {
  return {{"kind", "step"},
          {"step", r.step},
          {"tokens", r.tokens},
          {"loss", r.loss},
          {"main", r.main},
          {"mtp", r.mtp},
          {"balance", r.balance},
          {"grad_norm", r.grad_norm},
          {"learning_rate", r.learning_rate},
          {"tokens_per_second", r.tokens_per_second},
          {"fma_share", r.fma_share},
          {"seconds", r.seconds},
          {"skipped", r.skipped},
          {"load", to_json(r.load)}};
}

Json to_json(const ValidationRecord& r) {
  return {{"kind", "validation"},
          {"step", r.step},
          {"tokens", r.tokens},
          {"nats_per_token", r.nats_per_token},
          {"bits_per_byte", r.bits_per_byte},
          {"load", to_json(r.load)}};
}

Json to_json(const SampleRecord& r) {
  return {{"kind", "sample"}, {"step", r.step}, {"tokens", r.tokens}, {"prompt", r.prompt}, {"text", r.text}};
}

Json to_json(const NoteRecord& r) {
  return {{"kind", "note"}, {"step", r.step}, {"text", r.text}};
}

double number(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

double number(const Json& object, const char* key) {
  return number(object.at(key));
}

LayerLoad layer_load(const Json& j) {
  LayerLoad l;
  l.layer = j.at("layer");
  l.max_vio = number(j, "max_vio");
  l.bias_low = number(j, "bias_low");
  l.bias_high = number(j, "bias_high");
  l.dead = j.at("dead");
  l.counts = j.at("counts").get<std::vector<Index>>();
  return l;
}

std::vector<LayerLoad> layer_loads(const Json& list) {
  std::vector<LayerLoad> out;
  for (const Json& l : list) out.push_back(layer_load(l));
  return out;
}

StepRecord step_record(const Json& j) {
  StepRecord r;
  r.step = j.at("step");
  r.tokens = j.at("tokens");
  r.loss = number(j, "loss");
  r.main = number(j, "main");
  for (const Json& value : j.at("mtp")) r.mtp.push_back(number(value));
  r.balance = number(j, "balance");
  r.grad_norm = number(j, "grad_norm");
  r.learning_rate = number(j, "learning_rate");
  r.tokens_per_second = number(j, "tokens_per_second");
  r.fma_share = number(j, "fma_share");
  r.seconds = number(j, "seconds");
  r.skipped = j.at("skipped");
  r.load = layer_loads(j.at("load"));
  return r;
}

Record record_of(const Json& j) {
  const std::string kind = j.at("kind");
  if (kind == "step") return step_record(j);
  if (kind == "validation")
    return ValidationRecord{j.at("step"), j.at("tokens"), number(j, "nats_per_token"), number(j, "bits_per_byte"),
                            layer_loads(j.value("load", Json::array()))};  // earlier logs have none
  if (kind == "sample") return SampleRecord{j.at("step"), j.at("tokens"), j.at("prompt"), j.at("text")};
  if (kind == "note") return NoteRecord{j.at("step"), j.at("text")};
  fail("unknown kind");
}

// The step of a line that is whole, of whatever kind.
std::optional<Index> step_of(std::string_view line) {
  const Json j = Json::parse(line.begin(), line.end(), nullptr, false);
  if (!j.is_object() || !j.contains("step") || !j["step"].is_number_integer()) return {};
  return j["step"].get<Index>();
}

// Calls f(line) for every line of the file that has its end.
template <class F>
void for_each_line(const fs::path& path, F&& f) {
  std::ifstream file(path, std::ios::binary);
  HADAL_CHECK(file.is_open(), "{}: cannot be opened: {}", path.string(), std::strerror(errno));
  std::string line;
  while (std::getline(file, line) && !file.eof()) f(line);
  HADAL_CHECK(!file.bad(), "{}: cannot be read", path.string());
}

}  // namespace

std::string to_line(const Record& record) {
  const Json j = std::visit([](const auto& r) { return to_json(r); }, record);
  return j.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<Record> parse_line(std::string_view line) {
  try {
    return record_of(Json::parse(line.begin(), line.end()));
  } catch (const std::exception&) {
    return {};
  }
}

LogFile::LogFile(const fs::path& path, Index resume_step)
    : file_((cut_log(path, resume_step), path), AppendFile::Open::kAppend) {}

void cut_log(const fs::path& path, Index last_step) {
  std::error_code status;
  if (!fs::exists(path, status)) return;
  const fs::path temporary = path.string() + ".tmp";
  fs::remove(temporary, status);
  AppendFile kept(temporary, AppendFile::Open::kNew);
  std::size_t unread = 0;
  for_each_line(path, [&](std::string& line) {
    const auto step = step_of(line);
    unread += !step;
    if (step && *step <= last_step && last_step > 0) kept.write(line += '\n');
  });
  if (unread > 0) log_warning("{}: {} lines that are no records are cut away", path.string(), unread);
  kept.replace(path);
}

RunRecords read_log(const fs::path& path) {
  RunRecords out;
  for_each_line(path, [&](const std::string& line) {
    auto record = parse_line(line);
    if (!record) {
      ++out.unread;
    } else if (auto* step = std::get_if<StepRecord>(&*record)) {
      if (!step->load.empty()) {
        out.last_loads.push_back(step->load);
        if (out.last_loads.size() > RunRecords::kLoadsKept) out.last_loads.pop_front();
      }
      for (LayerLoad& l : step->load) l.counts = {};
      out.steps.push_back(std::move(*step));
    } else if (auto* validation = std::get_if<ValidationRecord>(&*record)) {
      for (LayerLoad& l : validation->load) l.counts = {};
      out.validation.push_back(std::move(*validation));
    } else if (auto* sample = std::get_if<SampleRecord>(&*record)) {
      out.samples.push_back(std::move(*sample));
    } else {
      out.notes.push_back(std::move(std::get<NoteRecord>(*record)));
    }
  });
  return out;
}

}  // namespace hadal::train
