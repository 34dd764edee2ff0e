// hadal train
#include <CLI/CLI.hpp>
#include <unistd.h>

#include <algorithm>

#include "hadal/cli/byte_progress.h"
#include "hadal/cli/commands.h"
#include "hadal/cli/interrupt.h"
#include "hadal/cli/options.h"
#include "hadal/cli/standard_error.h"
#include "hadal/cli/terminal.h"
#include "hadal/core/error.h"
#include "hadal/perf/limits.h"
#include "hadal/train/estimate.h"
#include "hadal/train/progress.h"
#include "hadal/train/trainer.h"

namespace hadal::cli {
namespace {

struct TrainCommand {
  std::string config, resume = "auto", isa;
  std::vector<std::string> settings;
  bool explain = false, dry_run = false;
};

// A line that is redrawn on a terminal, lines every so many steps elsewhere; sentences stand between them.
class Progress : public train::TrainWatcher {
 public:
  explicit Progress(Index every) : every_(every), terminal_(::isatty(STDERR_FILENO) == 1) {}

  bool interrupted() override { return cli::interrupted(); }
  void say(const std::string& sentence) override { line(sentence); }
  void building(std::uint64_t done, std::uint64_t total) override { building_(done, total); }
  void step(const train::StepRecord& r, const train::RunProgress& p) override {
    const std::string text = train::progress_line(r, p.total_steps, p.seconds_left);
    if (terminal_) {
      to_stderr(fmt::format("\r{}\x1b[K", text));
      drawn_ = true;
    } else if (r.step % every_ == 0 || r.step == 1 || r.step == p.total_steps) {
      line(text);
    }
  }
  void validation(const train::ValidationRecord& r) override {
    line(train::validation_line(r));
  }
  void sample(const train::SampleRecord& r) override {
    line(fmt::format("step {}: sample: {}|{}", r.step, r.prompt, r.text));
  }
  // The terminal's line stays as it is.
  void end() {
    if (std::exchange(drawn_, false)) to_stderr("\n");
  }

 private:
  void line(const std::string& text) {
    end();
    to_stderr(fmt::format("{}\n", text));
  }

  Index every_;
  bool terminal_, drawn_ = false;
  ByteProgress building_{"building the data set"};
};

// The best of some: what others take of the machine at the moment is no limit of it.
double fma_rate(int threads, Isa isa) {
  Context ctx(threads, isa);
  const perf::ReadTarget nothing(std::size_t{4096});
  const perf::Loop loop = perf::fma_loop_of(isa);
  double best = 0;
  for (int i = 0; i < 10; ++i) best = std::max(best, perf::measure(ctx, loop, nothing));
  return best;
}

int run(const TrainCommand& o) {
  if (o.explain && o.config.empty()) {
    print(train::explain_train_config(nullptr));
    return 0;
  }
  HADAL_CHECK(!o.config.empty(), "train: CONFIG is missing; `hadal train --explain` says what it can have");
  const train::TrainConfig config = train::read_train_config(o.config, o.settings);
  if (o.explain) {
    print(train::explain_train_config(&config));
    return 0;
  }
  train::TrainOptions options{.resume = o.resume == "auto"};
  if (!o.isa.empty()) options.isa = parse_isa(o.isa);
  options.fma_rate = fma_rate(config.threads, options.isa);
  if (o.dry_run) {
    print(train::describe_estimate(config, train::estimate_run(config), options.fma_rate));
    return 0;
  }
  Progress progress(config.log.every);
  try {
    const auto model = train::train(config, options, progress);
    progress.end();
    print(model.string() + "\n");
  } catch (...) {
    progress.end();
    throw;
  }
  return 0;
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
  static TrainCommand o;
  CLI::App* c = app.add_subcommand("train", "Pre-train a model by the technical report, from text to a model directory");
  c->add_option("CONFIG", o.config, "TOML file: docs/training.md, or --explain");
  c->add_option("--set", o.settings, "KEY=VALUE: a field of the configuration, over the file (may be repeated)")
      ->allow_extra_args(false);
  c->add_flag("--explain", o.explain, "Document every field, with CONFIG its value, and stop");
  c->add_flag("--dry-run", o.dry_run, "Say what the run takes of memory, operations and time, and stop");
  c->add_option("--resume", o.resume, "auto (default): go on from the newest checkpoint of the run; never: it must be new")
      ->check(CLI::IsMember({"auto", "never"}));
  c->add_option("--isa", o.isa, "Instruction set: ref, avx2, avx512, avx512-bf16 (default: the best this machine has)");
  c->footer(
      "Interrupted or killed, the same command goes on where it was, to the same bits. stdout gets the directory of the "
      "final model.\n\nExample:\n  hadal train examples/tiny.toml\n  hadal train examples/tiny.toml --set "
      "learning_rate.peak=1e-3 --set run_dir=runs/other");
  c->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
