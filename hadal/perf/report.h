// What a benchmark found: rows, as JSON that a later run can be compared with, as a table for a terminal or in
// Markdown.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "hadal/perf/statistics.h"

namespace hadal::perf {

using Json = nlohmann::ordered_json;

struct Row {
  std::string name = {};        // all that was chosen: "decode depth=4096 threads=2 isa=avx2"; rows are compared by it
  std::string unit = {};        // "tok/s", "GB/s", ...; of a time ("ms") less is better
  Spread value;                 // in `unit`
  double bytes = 0;             // that a step or prompt reads at least, weights with scales
  double flops = 0;             // of its linears
  double attention_flops = 0;   // of scores and weighted sums
  double cache_bytes = 0;       // that attention reads
  double limit = 0;             // the value at the machine's limit, in `unit`; 0: there is none
  std::string limited_by = {};  // the loop that sets it: "read-avx2"
  std::map<std::string, double> rates = {};   // loops measured in turns with the row, GB/s or GFLOP/s
  std::map<std::string, double> ratios = {};  // the value over the limit that each compute loop alone would set

  double ratio() const;  // share of the limit reached, 1 at best; 0 without a limit
};

bool less_is_better(const std::string& unit);

struct Report {
  std::string benchmark;  // "decode"
  Json machine;           // processor, cores, load
  std::vector<Row> rows;
};

// Throws Error naming `where` and the field if something is missing or of another type.
Report report_from_json(const Json& json, const std::string& where);
Json to_json(const Report& report);
std::string to_table(const Report& report);
std::string to_markdown(const Report& report);

// Rows of both reports, by name.
struct Change {
  std::string name, unit;
  double old_value = 0, new_value = 0, old_ratio = 0, new_ratio = 0;

  double speed() const;  // new over old, above 1 is faster
  // Relative to the limits of their runs if both have one: so machines and moods of machines cancel out.
  double relative_speed() const;
  bool slower() const { return old_ratio > 0 && new_ratio > 0 && relative_speed() < kTolerance; }

  static constexpr double kTolerance = 0.9;
};
std::vector<Change> compare(const Report& old_report, const Report& new_report);
std::string to_table(const std::vector<Change>& changes);
std::string to_markdown(const std::vector<Change>& changes);

// Processor name, cores this process may use, load average of the last minute.
Json describe_machine();

}  // namespace hadal::perf
