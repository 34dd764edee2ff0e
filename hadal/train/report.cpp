#include <algorithm>
#include <cmath>
#include <limits>

#include "hadal/io/json.h"
#include "hadal/train/chart.h"
#include "hadal/train/expert_load.h"
#include "hadal/train/log_file.h"
#include "hadal/train/progress.h"
#include "hadal/train/report_style.h"
#include "hadal/train/run_log.h"

namespace hadal::train {
namespace report_page {
namespace {

namespace fs = std::filesystem;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kTableRows = 40;
constexpr Index kHeatColumns = 120;
constexpr std::size_t kMarks = 40;  // more would hide the curves
constexpr std::size_t kSamples = 60;

// A curve of the steps: f(record) is the value.
template <class F>
Series curve_of(const RunRecords& run, std::string name, F&& f) {
  Series s{std::move(name), {}, {}};
  for (const StepRecord& r : run.steps) {
    s.x.push_back(static_cast<double>(r.step));
    s.y.push_back(f(r));
  }
  return s;
}

template <class F>
Series curve_of_validation(const RunRecords& run, std::string name, F&& f) {
  Series s{std::move(name), {}, {}};
  for (const ValidationRecord& r : run.validation) {
    s.x.push_back(static_cast<double>(r.step));
    s.y.push_back(f(r));
  }
  return s;
}

std::size_t depths(const RunRecords& run) {
  std::size_t d = 0;
  for (const StepRecord& r : run.steps) d = std::max(d, r.mtp.size());
  return d;
}

double mtp_of(const StepRecord& r, std::size_t depth) {
  return depth < r.mtp.size() ? r.mtp[depth] : kNone;
}

// Of all layers of a step; f(load) is one's value.
template <class F>
double over_layers(const StepRecord& r, double start, F&& f) {
  if (r.load.empty()) return kNone;
  double out = start;
  for (const LayerLoad& l : r.load) out = f(out, l);
  return out;
}

double worst_vio(const StepRecord& r) {
  return over_layers(r, 0, [](double a, const LayerLoad& l) { return std::max(a, l.max_vio); });
}

bool has_validated_load(const RunRecords& run) {
  return std::any_of(run.validation.begin(), run.validation.end(),
                     [](const ValidationRecord& r) { return !r.load.empty(); });
}

double highest_bias(const StepRecord& r) {
  return over_layers(r, -HUGE_VAL, [](double a, const LayerLoad& l) { return std::max(a, l.bias_high); });
}

double lowest_bias(const StepRecord& r) {
  return over_layers(r, HUGE_VAL, [](double a, const LayerLoad& l) { return std::min(a, l.bias_low); });
}

double dead_experts(const StepRecord& r) {
  return over_layers(r, 0, [](double a, const LayerLoad& l) { return a + static_cast<double>(l.dead); });
}

std::vector<double> marks(const RunRecords& run) {
  std::vector<double> out;
  for (const NoteRecord& n : run.notes) out.push_back(static_cast<double>(n.step));
  for (const StepRecord& r : run.steps)
    if (r.skipped) out.push_back(static_cast<double>(r.step));
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  if (out.size() > kMarks) out.clear();
  return out;
}

std::string curves(const RunRecords& run) {
  const std::vector<double> noted = marks(run);
  std::string out;
  const auto one = [&](std::string title, std::string unit, bool from_zero, std::vector<Series> series) {
    out += to_html(Chart{std::move(title), std::move(unit), std::move(series), from_zero, noted});
  };
  std::vector<Series> losses = {curve_of(run, "main", [](const StepRecord& r) { return r.main; })};
  for (std::size_t d = 0; d < depths(run); ++d)
    losses.push_back(curve_of(run, fmt::format("MTP {}", d), [d](const StepRecord& r) { return mtp_of(r, d); }));
  losses.push_back(curve_of(run, "total", [](const StepRecord& r) { return r.loss; }));
  one("Loss", "nats per token", false, std::move(losses));
  one("Validation", "bits per byte", false,
      {curve_of_validation(run, "bits per byte", [](const ValidationRecord& r) { return r.bits_per_byte; })});
  one("Gradient norm", "before clipping", true,
      {curve_of(run, "norm", [](const StepRecord& r) { return r.grad_norm; })});
  out += to_html(Chart{"Learning rate",
                       "",
                       {curve_of(run, "rate", [](const StepRecord& r) { return r.learning_rate; })},
                       true,
                       noted,
                       true});
  one("Speed", "tokens per second", true,
      {curve_of(run, "tokens/s", [](const StepRecord& r) { return r.tokens_per_second; })});
  one("Share of the multiply-add limit", "percent", true,
      {curve_of(run, "%", [](const StepRecord& r) { return 100 * r.fma_share; })});
  one("Balance loss", "before alpha", false, {curve_of(run, "balance", [](const StepRecord& r) { return r.balance; })});
  std::vector<Series> imbalance = {
      curve_of(run, "worst layer", worst_vio),
      curve_of(run, "mean of layers", [](const StepRecord& r) { return mean_max_vio(r.load); })};
  if (has_validated_load(run))
    imbalance.push_back(curve_of_validation(run, "validation, mean of layers",
                                            [](const ValidationRecord& r) { return mean_max_vio(r.load); }));
  one("Load imbalance", "MaxVio: largest load / mean - 1", true, std::move(imbalance));
  one("Routing bias", "range over all experts", true,
      {curve_of(run, "highest", highest_bias), curve_of(run, "lowest", lowest_bias)});
  one("Dead experts", "in all layers, in one step", true, {curve_of(run, "experts", dead_experts)});
  return out;
}

// MaxVio of each layer (rows) over the steps, each column the mean of a range of them.
HeatMap imbalance_map(const RunRecords& run) {
  std::vector<const StepRecord*> loaded;
  for (const StepRecord& r : run.steps)
    if (!r.load.empty()) loaded.push_back(&r);
  HeatMap map;
  map.title = "Load imbalance of each layer";
  map.unit = "MaxVio over time";
  map.row_name = "layer";
  map.column_name = "step";
  map.bounds = {0.1, 0.25, 0.5, 1, 2, 4};
  map.class_names = {"≤ 0.1", "≤ 0.25", "≤ 0.5", "≤ 1", "≤ 2", "≤ 4", "> 4"};
  if (loaded.empty()) return map;
  const std::vector<LayerLoad>& layers = loaded.back()->load;
  const auto total = static_cast<Index>(loaded.size()), columns = std::min(total, kHeatColumns);
  for (std::size_t row = 0; row < layers.size(); ++row) {
    map.rows.push_back(std::to_string(layers[row].layer));
    for (Index c = 0; c < columns; ++c) {
      double sum = 0, points = 0;
      for (Index i = c * total / columns; i < (c + 1) * total / columns; ++i) {
        const std::vector<LayerLoad>& load = loaded[static_cast<std::size_t>(i)]->load;
        if (row >= load.size() || !std::isfinite(load[row].max_vio)) continue;
        sum += load[row].max_vio;
        ++points;
      }
      map.values.push_back(points > 0 ? sum / points : kNone);
    }
  }
  map.first_column = static_cast<double>(loaded.front()->step);
  map.last_column = static_cast<double>(loaded.back()->step);
  return map;
}

// Each layer's counts over the last steps; those of another shape than the last step's do not count.
std::vector<LayerLoad> summed_load(const RunRecords& run) {
  if (run.last_loads.empty()) return {};
  std::vector<LayerLoad> sum = run.last_loads.back();
  for (auto load = std::next(run.last_loads.rbegin()); load != run.last_loads.rend(); ++load)
    for (std::size_t l = 0; l < std::min(sum.size(), load->size()); ++l)
      for (std::size_t e = 0; e < std::min(sum[l].counts.size(), (*load)[l].counts.size()); ++e)
        sum[l].counts[e] += (*load)[l].counts[e];
  return sum;
}

double mean_count(const LayerLoad& l) {
  double sum = 0;
  for (const Index c : l.counts) sum += static_cast<double>(c);
  return sum / static_cast<double>(l.counts.size());
}

HeatMap expert_map(const std::vector<LayerLoad>& load, std::size_t steps) {
  HeatMap map;
  map.title = "Load of each expert";
  map.unit = fmt::format("share of the mean, last {} steps", steps);
  map.row_name = "layer";
  map.column_name = "expert";
  map.colours = HeatMap::Colours::kDiverging;
  map.bounds = {0, 0.25, 0.5, 0.8, 1.25, 2, 4};
  map.class_names = {"none", "≤ ¼", "≤ ½", "≤ 0.8", "about 1", "≤ 2", "≤ 4", "> 4"};
  std::size_t experts = 0;
  for (const LayerLoad& l : load) experts = std::max(experts, l.counts.size());
  if (experts == 0) return map;
  for (const LayerLoad& l : load) {
    const double mean = mean_count(l);
    map.rows.push_back(std::to_string(l.layer));
    for (std::size_t e = 0; e < experts; ++e)
      map.values.push_back(e < l.counts.size() && mean > 0 ? static_cast<double>(l.counts[e]) / mean : kNone);
  }
  map.last_column = static_cast<double>(experts - 1);
  return map;
}

std::string with_commas(std::uint64_t n) {
  std::string text = std::to_string(n);
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<std::size_t>(at), ",");
  return text;
}

std::string tiles(const RunRecords& run) {
  std::string out = "<dl class=\"tiles\">";
  const auto tile = [&](const char* name, const std::string& value) {
    add_text(out, "<div><dt>{}</dt><dd>{}</dd></div>", name, value);
  };
  double seconds = 0;
  std::size_t skipped = 0, not_finite = 0;
  for (const StepRecord& r : run.steps) {
    if (std::isfinite(r.seconds)) seconds += r.seconds;
    skipped += r.skipped;
    not_finite += !std::isfinite(r.loss) || !std::isfinite(r.grad_norm);
  }
  if (!run.steps.empty()) {
    const StepRecord& last = run.steps.back();
    tile("steps", with_commas(static_cast<std::uint64_t>(std::max<Index>(0, last.step))));
    tile("tokens", with_commas(last.tokens));
    tile("last main loss", short_number(last.main));
    const double tokens = static_cast<double>(last.tokens - std::min(run.steps.front().tokens, last.tokens));
    const double after_first = seconds - run.steps.front().seconds;
    tile("time of the steps", duration_text(seconds));
    if (run.steps.size() > 1 && after_first > 0) tile("tokens per second", short_number(tokens / after_first));
  }
  if (!run.validation.empty()) {
    tile("last bits per byte", short_number(run.validation.back().bits_per_byte));
    double best = HUGE_VAL;
    for (const ValidationRecord& r : run.validation)
      if (r.bits_per_byte < best) best = r.bits_per_byte;
    tile("best bits per byte", short_number(best));
  }
  if (skipped > 0) tile("skipped steps", with_commas(skipped));
  if (not_finite > 0) tile("steps not finite", with_commas(not_finite));
  return out + "</dl>";
}

// Rows of so many that fit a page, evenly over all, the first and the last among them.
std::vector<std::size_t> chosen_rows(std::size_t size) {
  std::vector<std::size_t> out;
  const std::size_t rows = std::min(size, kTableRows);
  for (std::size_t i = 0; i < rows; ++i) out.push_back(rows == 1 ? 0 : i * (size - 1) / (rows - 1));
  return out;
}

std::string row_of(const char* cell, const std::vector<std::string>& texts) {
  std::string out = "<tr>";
  for (const std::string& text : texts) add_text(out, "<{}>{}</{}>", cell, text, cell);
  return out + "</tr>\n";
}

std::string table(const std::string& title, bool open, const std::vector<std::string>& head, const std::string& rows) {
  return fmt::format(
      "<details{}><summary>{}</summary><div "
      "class=\"wide\"><table><thead>{}</thead><tbody>{}</tbody></table></div></details>\n",
      open ? " open" : "", title, row_of("th", head), rows);
}

std::string extent(std::size_t all) {
  return all > kTableRows ? fmt::format("{} of {}, all are in log.jsonl", kTableRows, with_commas(all))
                          : with_commas(all);
}

std::string step_table(const RunRecords& run) {
  if (run.steps.empty()) return {};
  std::vector<std::string> head = {"step", "tokens", "loss", "main"};
  for (std::size_t d = 0; d < depths(run); ++d) head.push_back(fmt::format("MTP {}", d));
  for (const char* name : {"balance", "grad norm", "learning rate", "tokens/s", "FMA %", "MaxVio", ""})
    head.emplace_back(name);
  std::string rows;
  for (const std::size_t i : chosen_rows(run.steps.size())) {
    const StepRecord& r = run.steps[i];
    std::vector<std::string> cells = {with_commas(static_cast<std::uint64_t>(std::max<Index>(0, r.step))),
                                      with_commas(r.tokens), short_number(r.loss), short_number(r.main)};
    for (std::size_t d = 0; d < depths(run); ++d) cells.push_back(short_number(mtp_of(r, d)));
    for (const double v :
         {r.balance, r.grad_norm, r.learning_rate, r.tokens_per_second, 100 * r.fma_share, worst_vio(r)})
      cells.push_back(short_number(v));
    cells.emplace_back(r.skipped ? "skipped" : "");
    rows += row_of("td", cells);
  }
  return table(fmt::format("Steps ({})", extent(run.steps.size())), true, head, rows);
}

std::string validation_table(const RunRecords& run) {
  if (run.validation.empty()) return {};
  std::string rows;
  for (const std::size_t i : chosen_rows(run.validation.size())) {
    const ValidationRecord& r = run.validation[i];
    rows += row_of("td", {with_commas(static_cast<std::uint64_t>(std::max<Index>(0, r.step))), with_commas(r.tokens),
                          short_number(r.nats_per_token), short_number(r.bits_per_byte),
                          short_number(mean_max_vio(r.load))});
  }
  return table(fmt::format("Validation ({})", extent(run.validation.size())), false,
               {"step", "tokens", "nats per token", "bits per byte", "MaxVio, mean of layers"}, rows);
}

std::string load_table(const std::vector<LayerLoad>& load, std::size_t steps) {
  if (load.empty()) return {};
  std::string rows;
  for (const LayerLoad& l : load) {
    const auto most = std::max_element(l.counts.begin(), l.counts.end());
    const auto least = std::min_element(l.counts.begin(), l.counts.end());
    const auto share = [&](auto it) {
      if (it == l.counts.end()) return std::string("–");
      return fmt::format("{} ({})", it - l.counts.begin(), short_number(static_cast<double>(*it) / mean_count(l)));
    };
    rows += row_of("td", {std::to_string(l.layer), share(most), share(least), short_number(l.max_vio),
                          std::to_string(l.dead), short_number(l.bias_low), short_number(l.bias_high)});
  }
  return table(
      fmt::format("Experts (load of the last {} steps as a share of the mean, the rest of the last one)", steps), false,
      {"layer", "most used", "least used", "MaxVio", "dead", "lowest bias", "highest bias"}, rows);
}

std::string notes(const RunRecords& run) {
  std::string out;
  for (const NoteRecord& n : run.notes) add_text(out, "<li>Step {}: {}</li>\n", n.step, escape_html(n.text));
  if (run.unread > 0) add_text(out, "<li>{} lines of log.jsonl could not be read.</li>\n", run.unread);
  return out.empty() ? out : "<h2>Notes</h2><ul>" + out + "</ul>";
}

std::string sample(const SampleRecord& s) {
  return fmt::format("<div class=\"sample\"><small>step {}</small><pre><b>{}</b>{}</pre></div>\n", s.step,
                     escape_html(s.prompt), escape_html(s.text));
}

// Those of the last step in sight, earlier ones folded away, the latest first.
std::string samples(const RunRecords& run) {
  if (run.samples.empty()) return {};
  const Index last = run.samples.back().step;
  std::string now, earlier;
  std::size_t shown = 0;
  for (auto s = run.samples.rbegin(); s != run.samples.rend() && shown < kSamples; ++s, ++shown)
    (s->step == last ? now : earlier) += sample(*s);
  if (!earlier.empty()) earlier = "<details><summary>Earlier samples</summary>" + earlier + "</details>";
  if (run.samples.size() > kSamples)
    add_text(earlier, "<p class=\"faint\">The last {} of {}; all are in log.jsonl.</p>", kSamples, run.samples.size());
  return "<h2>Samples</h2>" + now + earlier;
}

std::string config_text(const fs::path& path) {
  std::error_code status;
  if (!fs::exists(path, status)) return {};
  return "<h2>Configuration</h2><details><summary>config.toml</summary><pre>" +
         escape_html(io::read_text_file(path, std::size_t{1} << 20)) + "</pre></details>";
}

std::string run_name(const fs::path& directory) {
  const fs::path whole = fs::absolute(directory).lexically_normal();
  const fs::path name = whole.has_filename() ? whole.filename() : whole.parent_path().filename();
  return escape_html(name.string());
}

std::string page(const std::string& name, const RunRecords& run, const std::string& config) {
  const std::vector<LayerLoad> load = summed_load(run);
  const std::size_t steps = run.last_loads.size();
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
      // Nothing is fetched and nothing runs, whatever a model has written.
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">";
  add_text(out, "<title>{}: training report</title><style>{}</style></head><body>\n", name, kReportStyle);
  add_text(out, "<h1>{}</h1><p class=\"faint\">Training report by Hadal, made of log.jsonl</p>{}", name, tiles(run));
  if (run.steps.empty()) {
    out += "<p>The log has no steps yet.</p>";
  } else {
    out +=
        "<input type=\"radio\" name=\"steps\" id=\"lin\" checked><label for=\"lin\">linear steps</label>"
        "<input type=\"radio\" name=\"steps\" id=\"log\"><label for=\"log\">logarithmic steps</label>";
  }
  out += "<main><h2>Curves</h2><div class=\"charts\">" + curves(run) + to_html(imbalance_map(run)) +
         to_html(expert_map(load, steps)) + "</div>\n" + notes(run) + samples(run) + "<h2>Data</h2>" + step_table(run) +
         validation_table(run) + load_table(load, steps) + config;
  return out + "</main></body></html>\n";
}

}  // namespace
}  // namespace report_page

void write_report(const std::filesystem::path& run_directory) {
  using namespace report_page;
  const RunRecords run = read_log(run_directory / "log.jsonl");
  io::write_text_file_atomically(run_directory / "report.html",
                                 page(run_name(run_directory), run, config_text(run_directory / "config.toml")));
}

}  // namespace hadal::train
