#include "hadal/perf/report.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <fstream>

#include "hadal/core/context.h"
#include "hadal/core/error.h"

namespace hadal::perf {
namespace {

using Table = std::vector<std::vector<std::string>>;

constexpr int kSchema = 1;

template <class T>
T field(const Json& json, const char* key, const std::string& where) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  HADAL_CHECK(json.is_object() && found != json.end(),
              "{}: \"{}\" is missing, an output of `hadal bench --json` was expected", where, key);
  try {
    return found->get<T>();
  } catch (const Json::exception&) {
    fail("{}: \"{}\" is {}, which is of another type than `hadal bench --json` writes", where, key, found->dump());
  }
}

Json row_to_json(const Row& row) {
  Json json = {{"name", row.name},
               {"unit", row.unit},
               {"median", row.value.median},
               {"lower_quartile", row.value.lower_quartile},
               {"upper_quartile", row.value.upper_quartile},
               {"runs", row.value.runs},
               {"bytes", row.bytes},
               {"flops", row.flops},
               {"attention_flops", row.attention_flops},
               {"cache_bytes", row.cache_bytes},
               {"limit", row.limit},
               {"limited_by", row.limited_by},
               {"ratio", row.ratio()}};
  json["rates"] = row.rates;
  json["ratios"] = row.ratios;
  return json;
}

Row row_from_json(const Json& json, const std::string& where) {
  Row row;
  row.name = field<std::string>(json, "name", where);
  row.unit = field<std::string>(json, "unit", where);
  row.value = {field<double>(json, "median", where), field<double>(json, "lower_quartile", where),
               field<double>(json, "upper_quartile", where), field<int>(json, "runs", where)};
  row.bytes = field<double>(json, "bytes", where);
  row.flops = field<double>(json, "flops", where);
  row.attention_flops = field<double>(json, "attention_flops", where);
  row.cache_bytes = field<double>(json, "cache_bytes", where);
  row.limit = field<double>(json, "limit", where);
  row.limited_by = field<std::string>(json, "limited_by", where);
  row.rates = field<std::map<std::string, double>>(json, "rates", where);
  row.ratios = field<std::map<std::string, double>>(json, "ratios", where);
  return row;
}

// Three or four digits that say something.
std::string number(double value) {
  if (value == 0) return "0";
  return fmt::format("{:.{}f}", value, value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3);
}

std::string scaled(double value, double unit) {
  return value == 0 ? "" : number(value / unit);
}

std::string percent(double ratio) {
  return ratio == 0 ? "" : fmt::format("{:.1f} %", 100 * ratio);
}

std::string join(const std::map<std::string, double>& ratios) {
  std::string text;
  for (const auto& [loop, ratio] : ratios)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", loop, percent(ratio));
  return text;
}

Table cells(const Report& report) {
  Table table = {
      {"", "median", "quartiles", "unit", "GB", "GFLOP", "limit", "set by", "reached", "of each loop alone"}};
  for (const Row& row : report.rows)
    table.push_back({row.name, number(row.value.median),
                     fmt::format("{} .. {}", number(row.value.lower_quartile), number(row.value.upper_quartile)),
                     row.unit, scaled(row.bytes, 1e9), scaled(row.flops + row.attention_flops, 1e9),
                     scaled(row.limit, 1), row.limited_by, percent(row.ratio()), join(row.ratios)});
  return table;
}

Table cells(const std::vector<Change>& changes) {
  Table table = {{"", "old", "new", "unit", "new / old", "old of limit", "new of limit", ""}};
  for (const Change& c : changes)
    table.push_back({c.name, number(c.old_value), number(c.new_value), c.unit, fmt::format("{:.2f}", c.speed()),
                     percent(c.old_ratio), percent(c.new_ratio), c.slower() ? "slower" : ""});
  return table;
}

// Columns without a value in any row are left out.
Table without_empty_columns(const Table& table) {
  Table kept(table.size());
  for (std::size_t c = 0; c < table[0].size(); ++c) {
    bool used = c == 0;
    for (std::size_t r = 1; r < table.size(); ++r) used = used || !table[r][c].empty();
    for (std::size_t r = 0; used && r < table.size(); ++r) kept[r].push_back(table[r][c]);
  }
  return kept;
}

std::string plain(const Table& all) {
  const Table table = without_empty_columns(all);
  std::string text;
  for (const auto& row : table) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      std::size_t width = 0;
      for (const auto& other : table) width = std::max(width, other[c].size());
      line += fmt::format("{:<{}}  ", row[c], width);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string markdown(const Table& all) {
  const Table table = without_empty_columns(all);
  std::string text;
  for (std::size_t r = 0; r < table.size(); ++r) {
    text += "|";
    for (const std::string& cell : table[r]) text += " " + cell + " |";
    text += "\n";
    if (r > 0) continue;
    text += "|";
    for (std::size_t c = 0; c < table[r].size(); ++c) text += " --- |";
    text += "\n";
  }
  return text;
}

std::string heading(const Json& machine) {
  return fmt::format("{}, {} cores, load {:.2f}", machine.value("processor", "?"), machine.value("cores", 0),
                     machine.value("load", 0.0));
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.find(": ") + 2, line.size()));
  return "unknown processor";
}

}  // namespace

double Row::ratio() const {
  if (limit == 0 || value.median == 0) return 0;
  return less_is_better(unit) ? limit / value.median : value.median / limit;
}

bool less_is_better(const std::string& unit) {
  return unit == "ms";
}

Json to_json(const Report& report) {
  Json json = {{"schema", kSchema}, {"benchmark", report.benchmark}, {"machine", report.machine}};
  json["rows"] = Json::array();
  for (const Row& row : report.rows) json["rows"].push_back(row_to_json(row));
  return json;
}

Report report_from_json(const Json& json, const std::string& where) {
  const int schema = field<int>(json, "schema", where);
  HADAL_CHECK(schema == kSchema, "{}: \"schema\" is {}, this version compares with {}; measure again", where, schema,
              kSchema);
  Report report{field<std::string>(json, "benchmark", where), field<Json>(json, "machine", where), {}};
  const auto rows = field<Json>(json, "rows", where);
  HADAL_CHECK(rows.is_array(), "{}: \"rows\" is not a list", where);
  for (std::size_t i = 0; i < rows.size(); ++i)
    report.rows.push_back(row_from_json(rows[i], fmt::format("{}, rows[{}]", where, i)));
  return report;
}

std::string to_table(const Report& report) {
  return heading(report.machine) + "\n" + plain(cells(report));
}

std::string to_markdown(const Report& report) {
  return heading(report.machine) + "\n\n" + markdown(cells(report));
}

double Change::speed() const {
  if (old_value == 0 || new_value == 0) return 0;
  return less_is_better(unit) ? old_value / new_value : new_value / old_value;
}

double Change::relative_speed() const {
  return old_ratio > 0 && new_ratio > 0 ? new_ratio / old_ratio : speed();
}

std::vector<Change> compare(const Report& old_report, const Report& new_report) {
  std::vector<Change> changes;
  for (const Row& now : new_report.rows)
    for (const Row& old : old_report.rows)
      if (old.name == now.name && old.unit == now.unit)
        changes.push_back({now.name, now.unit, old.value.median, now.value.median, old.ratio(), now.ratio()});
  return changes;
}

std::string to_table(const std::vector<Change>& changes) {
  return plain(cells(changes));
}

std::string to_markdown(const std::vector<Change>& changes) {
  return markdown(cells(changes));
}

Json describe_machine() {
  double load = 0;
  ::getloadavg(&load, 1);
  return {{"processor", processor()},
          {"cores", ThreadPool::available_cores()},
          {"best_isa", isa_name(best_isa())},
          {"load", load}};
}

}  // namespace hadal::perf
