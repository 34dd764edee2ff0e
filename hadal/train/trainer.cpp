#include "hadal/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "hadal/core/not_finite.h"
#include "hadal/io/file_lock.h"
#include "hadal/io/unfinished_files.h"
#include "hadal/train/ema.h"
#include "hadal/train/estimate.h"
#include "hadal/train/expert_load.h"
#include "hadal/train/flops.h"
#include "hadal/train/initial_values.h"
#include "hadal/train/micro_batch.h"
#include "hadal/train/muon.h"
#include "hadal/train/run_checkpoints.h"
#include "hadal/train/spikes.h"
#include "hadal/train/validation.h"

namespace hadal::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr Index kValidationRows = 2048;  // in a pass

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The run's directory is made, and held so that no other process trains in it.
io::FileLock hold(const fs::path& run) {
  std::error_code status;
  fs::create_directories(run, status);
  HADAL_CHECK(!status, "{}: cannot be made: {}", run.string(), status.message());
  io::FileLock lock(run / ".lock", fmt::format("{}: another run is training in it; wait for that, or name another run_dir",
                                               run.string()));
  // What a run that was killed left half written. Nobody else writes here now.
  for (const char* name : {"config.toml", "report.html"}) io::remove_unfinished(run / name);
  return lock;
}

fs::path config_source(const TrainConfig& c) {
  return c.model.init_from.empty() ? c.model.config : c.model.init_from;
}

OptimizerOptions optimizer_options(const TrainConfig& c) {
  OptimizerOptions o;
  o.kind = c.optimizer.kind == "muon" ? OptimizerKind::kMuon : OptimizerKind::kAdamW;
  o.adamw = {c.optimizer.beta1, c.optimizer.beta2, c.optimizer.eps, c.optimizer.weight_decay};
  o.muon.momentum = c.optimizer.momentum;
  o.muon.weight_decay = c.optimizer.weight_decay;
  o.moments = c.optimizer.moments == "bf16" ? DType::kBF16 : DType::kF32;
  return o;
}

checkpoint::StorageOptions storage_named(const std::string& dtype) {
  return {.target = checkpoint::target_from_name(dtype)};
}

// Everything that a run is made of.
class TrainingRun {
 public:
  TrainingRun(const TrainConfig& config, const TrainOptions& options, TrainWatcher& watcher)
      : config_(config),
        options_(options),
        watcher_(watcher),
        schedule_(run_schedule(config)),
        lock_(hold(config.run_dir)),
        ctx_(config.threads, numerics_of(*precision_named(config.precision), options.isa)),
        model_(model_config(config.model.config, config.model.init_from)),
        files_(read_model_files(config_source(config), tokenizer_directory(config))),
        data_(open_training_data(config, [&](std::uint64_t done, std::uint64_t total) {
          watcher.building(done, total);
          return !watcher.interrupted();
        })),
        parameters_(model_, *precision_named(config.precision)),
        optimizer_(make_optimizer(parameters_, optimizer_options(config))),
        micro_batch_(model_, config.recompute),
        checkpoints_(config.run_dir, {config.checkpoint.keep_last, config.checkpoint.keep_every}),
        spike_rule_{config.spikes.z_score, config.spikes.window} {
    check_sizes();
    begin();
  }

  fs::path train() {
    const Index begun_at = state_.step;
    bool data_left = true;
    while (data_left && !schedule_.done(state_.step, state_.tokens)) {
      stop_if_interrupted();
      data_left = one_step();
      if (data_left) after_step();
    }
    if (!data_left && state_.step > begun_at) end_of_data();
    const fs::path final_model = fs::path(config_.run_dir) / "final";
    std::error_code status;
    if (state_.step == begun_at && fs::exists(final_model / "config.json", status)) {
      watcher_.say(fmt::format("{}: its {} steps are done already; a longer length would go on from there",
                               config_.run_dir, state_.step));
    } else {
      save(true);
      if (config_.export_average) ema_->swap(ctx_, parameters_);
      write_model(ctx_, parameters_, model_.config, files_, final_model, storage_named(config_.export_dtype));
      if (config_.export_average) ema_->swap(ctx_, parameters_);
      log_->flush();
    }
    // Also of a run that is done already: it may have been killed between its model and its report.
    write_report(config_.run_dir);
    return final_model;
  }

 private:
  void check_sizes() const {
    const config::Config& c = model_.config;
    HADAL_CHECK(data_.tokenizer.vocab_size() <= c.vocab_size,
                "{}: its tokenizer gives ids up to {}, the model's vocab_size is {}",
                tokenizer_directory(config_).string(), data_.tokenizer.vocab_size() - 1, c.vocab_size);
    HADAL_CHECK(schedule_.longest() <= c.max_position_embeddings,
                "batch.sequence_length: {} is more than the model's max_position_embeddings, {}", schedule_.longest(),
                c.max_position_embeddings);
    double shortest = std::numeric_limits<double>::infinity();
    for (const auto& e : config_.batch.sequence_length.entries) shortest = std::min(shortest, e.value);
    HADAL_CHECK(shortest > static_cast<double>(model_.mtp.size()),
                "batch.sequence_length: {} is too short for a model that predicts {} tokens ahead", shortest,
                model_.mtp.size() + 1);
  }

  // --- Beginning and resuming.

  void begin() {
    const auto saved = checkpoints_.newest([&](const std::string& sentence) { watcher_.say(sentence); });
    std::error_code status;
    HADAL_CHECK(options_.resume || (!saved && !fs::exists(fs::path(config_.run_dir) / "log.jsonl", status)),
                "{}: has a run already; --resume auto goes on with it, another run_dir begins a new one",
                config_.run_dir);
    HADAL_CHECK(saved || !checkpoints_.any(),
                "{}: none of its checkpoints can be used; put one of them back, or name another run_dir", config_.run_dir);
    HADAL_CHECK(saved || !fs::exists(fs::path(config_.run_dir) / "final" / "config.json", status),
                "{}: has a final model and no checkpoint that the run could go on from; name another run_dir",
                config_.run_dir);
    if (config_.ema_decay > 0 && saved) ema_ = std::make_unique<Ema>(parameters_, config_.ema_decay);
    if (saved)
      resume(*saved);
    else
      begin_anew();
    saved_step_ = state_.step;
    last_saved_ = Clock::now();
    io::write_text_file_atomically(fs::path(config_.run_dir) / "config.toml", to_toml(config_));
    if (state_.step == 0) watcher_.say(fmt::format("{}: a new run of {} steps", config_.run_dir, schedule_.total_steps));
  }

  void begin_anew() {
    if (config_.model.init_from.empty()) {
      init_values(ctx_, parameters_, config_.model.init_seed.value_or(config_.seed), config_.model.init_std);
    } else {
      read_values(ctx_, config_.model.init_from, parameters_);
      check_finite(ctx_, parameters_, config_.model.init_from);
    }
    if (config_.ema_decay > 0) ema_ = std::make_unique<Ema>(parameters_, config_.ema_decay);
    loader_ = std::make_unique<data::Loader>(*data_.dataset, loader_options(config_, schedule_.block));
    state_.loader = loader_->state();
    log_ = std::make_unique<RunLog>(config_.run_dir, 0);
  }

  void resume(const SavedRun& saved) {
    const auto changes = accept_changes(saved.config, config_);
    check_model(saved);
    restore(saved);
    loader_ = std::make_unique<data::Loader>(*data_.dataset, loader_options(config_, schedule_.block), state_.loader);
    log_ = std::make_unique<RunLog>(config_.run_dir, state_.step);
    say(fmt::format("resumed from {}: step {} of {}", saved.path.string(), state_.step, schedule_.total_steps));
    for (const std::string& change : changes) say(change);
    // What was exported otherwise is exported again.
    std::error_code status;
    if (std::any_of(changes.begin(), changes.end(), [](const std::string& c) { return c.starts_with("export."); }))
      fs::remove_all(fs::path(config_.run_dir) / "final", status);
  }

  // The model's shape is what a run cannot change, wherever its config.json lies.
  void check_model(const SavedRun& saved) const {
    const io::Json now = io::parse_json(files_.config_text(model_.config, storage_named("f32")), "config.json");
    for (const auto& [name, value] : now.items()) {
      const auto before = saved.model.find(name);
      HADAL_CHECK(before != saved.model.end() && *before == value,
                  "model.config: {} is {}, the run was started with {}; a run that is resumed cannot change its model, "
                  "name another run_dir",
                  name, value.dump(), before == saved.model.end() ? "none" : before->dump());
    }
    HADAL_CHECK(now.size() == saved.model.size(),
                "model.config: has {} fields, the run was started with {}; a run that is resumed cannot change its "
                "model, name another run_dir",
                now.size(), saved.model.size());
  }

  void restore(const SavedRun& saved) {
    RunCheckpoints::read(saved.path, tensors());
    parameters_.publish(ctx_);
    state_ = saved.state;
    optimizer_->set_steps(state_.optimizer_steps);
  }

  CheckpointTensors tensors() {
    CheckpointTensors all;
    for (const Parameter& p : parameters_.all()) all["model.safetensors"].push_back({p.name, p.value});
    optimizer_->for_each_state(
        [&](const std::string& name, const TensorRef& t) { all["optimizer.safetensors"].push_back({name, t}); });
    if (ema_)
      ema_->for_each_state(
          [&](const std::string& name, const TensorRef& t) { all["ema.safetensors"].push_back({name, t}); });
    return all;
  }

  // --- A step.

  // False when the data has come to its end.
  bool one_step() {
    const auto start = Clock::now();
    const Index sequences = schedule_.sequences_at(state_.tokens), length = schedule_.length_at(state_.tokens);
    data::Batch loaded;
    if (!loader_->next(sequences, length, loaded)) return false;
    const Batch batch = to_batch(loaded, config_.data.within_documents);
    const Objective objective = schedule_.objective_at(state_.tokens);
    const Losses losses = gradients(batch, objective);
    const double norm = gradient_norm(ctx_, parameters_);

    StepRecord r;
    r.step = state_.step + 1;
    r.loss = losses.total(objective);
    r.main = losses.main;
    r.mtp = losses.mtp;
    r.balance = schedule_.alpha > 0 ? losses.balance / schedule_.alpha : 0;
    r.grad_norm = norm;
    r.learning_rate = schedule_.learning_rate.at(state_.step, state_.tokens);
    r.skipped = is_spike(spike_rule_, state_.losses, std::isfinite(r.loss) ? r.main : r.loss, norm);
    if (!r.skipped) update(losses, r);
    r.load = expert_loads(model_.config, parameters_, losses.counts);

    const auto tokens = static_cast<std::uint64_t>(batch.tokens());
    ++state_.step;
    state_.tokens += tokens;
    state_.loader = loader_->state();
    r.tokens = state_.tokens;
    r.seconds = seconds_since(start);
    state_.seconds += r.seconds;
    r.tokens_per_second = static_cast<double>(tokens) / r.seconds;
    if (options_.fma_rate > 0)
      r.fma_share = flops_per_token(model_.config, length) * r.tokens_per_second / options_.fma_rate;
    finish(r);
    return true;
  }

  Losses gradients(const Batch& batch, const Objective& objective) {
    const Denominators counts = denominators(batch, static_cast<Index>(model_.mtp.size()));
    const Index size = config_.batch.micro_batch > 0 ? config_.batch.micro_batch : batch.sequences;
    Losses losses;
    parameters_.clear_gradients(ctx_);
    for (Index begin = 0; begin < batch.sequences; begin += size) {
      stop_if_interrupted();
      const Batch part = batch.part(begin, std::min(begin + size, batch.sequences));
      try {
        micro_batch_.run(ctx_, part, objective, counts, losses);
      } catch (const NotFinite&) {
        losses.main = std::numeric_limits<double>::quiet_NaN();
        break;
      }
    }
    return losses;
  }

  void update(const Losses& losses, const StepRecord& r) {
    const TrainConfig::OptimizerFields& o = config_.optimizer;
    optimizer_->step(ctx_, parameters_, r.learning_rate, o.clip > 0 ? clip_factor(r.grad_norm, o.clip) : 1);
    if (o.qk_clip > 0) clip_queries_and_keys(parameters_, model_.config, losses.largest_scores, o.qk_clip);
    state_.optimizer_steps = optimizer_->steps();
    if (has_routing_bias()) step_routing_bias(parameters_, losses.counts, schedule_.gamma.at(state_.tokens));
    parameters_.publish(ctx_);
    if (ema_) ema_->update(ctx_, parameters_);
    remember_loss(spike_rule_, state_.losses, r.main);
    state_.last_was_spike = false;
  }

  bool has_routing_bias() const {
    return std::any_of(parameters_.all().begin(), parameters_.all().end(),
                       [](const Parameter& p) { return p.info.role == weights::ParamRole::kRouterBias; });
  }

  void finish(const StepRecord& r) {
    log_->write(r);
    RunProgress progress{schedule_.total_steps, schedule_.total_tokens, 0};
    if (state_.tokens < schedule_.total_tokens)
      progress.seconds_left = static_cast<double>(schedule_.total_tokens - state_.tokens) / r.tokens_per_second;
    watcher_.step(r, progress);
    if (r.skipped) spike(r);
  }

  // --- Spikes. The update of a spike's batch was never made, so the state is still the one before it.

  void spike(const StepRecord& r) {
    ++state_.spikes;
    say(fmt::format("step {}: the loss is {:.4g} and the norm of the gradients {:.4g}; its batch is skipped (spike {} of "
                    "at most {})",
                    r.step, r.loss, r.grad_norm, state_.spikes, config_.spikes.most));
    HADAL_CHECK(state_.spikes <= config_.spikes.most,
                "{}: {} spikes, more than spikes.most; a lower learning_rate.peak or a longer warm-up may help",
                config_.run_dir, state_.spikes);
    state_.last_was_spike = !state_.last_was_spike;
    if (!state_.last_was_spike) roll_back();
  }

  // Two in a row: not the batch is at fault but the weights.
  void roll_back() {
    check_checkpoints(true);
    const auto saved = checkpoints_.newest([&](const std::string& sentence) { watcher_.say(sentence); });
    if (!saved) return say(fmt::format("step {}: there is no checkpoint yet to go back to", state_.step));
    const RunState now = state_;
    restore(*saved);
    // The data goes on; what came since the checkpoint is left out.
    state_.loader = now.loader;
    state_.spikes = now.spikes;
    state_.last_was_spike = false;
    state_.seconds = now.seconds;
    log_.reset();
    log_ = std::make_unique<RunLog>(config_.run_dir, state_.step);
    saved_step_ = state_.step;
    say(fmt::format("step {}: back to step {}, whose checkpoint is the last one; the data between is left out",
                    now.step, state_.step));
  }

  // --- Between steps.

  void after_step() {
    const bool last = schedule_.done(state_.step, state_.tokens);
    const auto due = [&](Index every) { return last || (every > 0 && state_.step % every == 0); };
    if (due(config_.log.validation_every)) measure_validation();
    if (due(config_.log.samples_every)) take_samples();
    check_checkpoints(false);
    const TrainConfig::Checkpointing& c = config_.checkpoint;
    const bool by_steps = c.every_steps > 0 && state_.step % c.every_steps == 0;
    const bool by_time = c.every_minutes > 0 && seconds_since(last_saved_) >= 60 * c.every_minutes;
    if (by_steps || by_time) save(false);
  }

  void end_of_data() {
    say(fmt::format("step {}: the data has been gone through; training ends after {} of {} tokens", state_.step,
                    state_.tokens, schedule_.total_tokens));
    measure_validation();
    take_samples();
  }

  // Neither this nor samples are interrupted: a step is saved with what is measured after it, or not at all.
  void measure_validation() {
    if (config_.log.validation_sequences <= 0 || !data_.has_validation() || state_.step == 0) return;
    const Index length = schedule_.length_at(state_.tokens);
    // No more rows than a micro-batch has: the pass takes no more memory than training.
    const Index micro = config_.batch.micro_batch > 0 ? config_.batch.micro_batch : schedule_.sequences_at(state_.tokens);
    const Index at_a_time = std::clamp<Index>(kValidationRows / length, 1, micro);
    const Validation v =
        validate(ctx_, model_, data_, schedule_.block, length, config_.log.validation_sequences, at_a_time);
    const ValidationRecord r{state_.step, state_.tokens, v.nats_per_token(), v.bits_per_byte(),
                             expert_loads(model_.config, parameters_, v.counts)};
    log_->write(r);
    watcher_.validation(r);
  }

  void take_samples() {
    for (const std::string& prompt : config_.log.sample_prompts) {
      const SampleRecord r{state_.step, state_.tokens, prompt,
                           sample_text(ctx_, model_, data_, prompt, config_.log.sample_tokens, config_.seed)};
      log_->write(r);
      watcher_.sample(r);
    }
  }

  void say(const std::string& sentence) {
    watcher_.say(sentence);
    log_->note(state_.step, sentence);
  }

  // --- Saving.

  void save(bool wait) {
    if (state_.step > saved_step_) {
      log_->flush();
      const io::Json trainer = {{"version", 1}, {"state", to_json(state_)}, {"config", to_json(config_)}};
      auto texts = files_.texts;
      texts["config.json"] = files_.config_text(model_.config, storage_named("f32"));
      texts["trainer.json"] = trainer.dump(1) + "\n";
      check_checkpoints(true);
      checkpoints_.begin(ctx_, tensors(), state_, std::move(texts));
      saved_step_ = state_.step;
      last_saved_ = Clock::now();
    }
    check_checkpoints(wait);
  }

  void check_checkpoints(bool wait) {
    try {
      checkpoints_.check(wait);
    } catch (const Error& e) {
      const auto whole = checkpoints_.newest([](const std::string&) {});
      fail("{}; {}", e.what(),
           whole ? fmt::format("the newest checkpoint is {}, the same command goes on from there", whole->path.string())
                 : "there is no checkpoint yet");
    }
  }

  void stop_if_interrupted() {
    if (!watcher_.interrupted()) return;
    save(true);
    if (state_.step == 0) throw Interrupted(fmt::format("{}: interrupted before its first step was done", config_.run_dir));
    throw Interrupted(fmt::format("{}: interrupted; step {} is saved, the same command goes on from there",
                                  config_.run_dir, state_.step));
  }

  const TrainConfig& config_;
  const TrainOptions& options_;
  TrainWatcher& watcher_;
  const RunSchedule schedule_;
  io::FileLock lock_;
  Context ctx_;
  model::Transformer model_;
  ModelFiles files_;
  TrainingData data_;
  Parameters parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Ema> ema_;
  MicroBatch micro_batch_;
  RunCheckpoints checkpoints_;
  SpikeRule spike_rule_;
  std::unique_ptr<data::Loader> loader_;
  std::unique_ptr<RunLog> log_;
  RunState state_;
  Index saved_step_ = 0;  // the last one that a checkpoint is of, or is being written of
  Clock::time_point last_saved_;
};

}  // namespace

fs::path train(const TrainConfig& config, const TrainOptions& options, TrainWatcher& watcher) {
  check_memory(estimate_run(config));
  return TrainingRun(config, options, watcher).train();
}

}  // namespace hadal::train
