// hadal gradients
#include <CLI/CLI.hpp>
#include <cmath>

#include "hadal/cli/commands.h"
#include "hadal/cli/options.h"
#include "hadal/io/safetensors.h"
#include "hadal/train/batch_file.h"
#include "hadal/train/micro_batch.h"
#include "hadal/train/optimizer.h"
#include "hadal/weights/checkpoint.h"

namespace hadal::cli {
namespace {

using train::Losses;

struct GradientsCommand {
  std::string model, batch, out, precision = "f32", isa;
  int threads = 0;
  Index micro_batch = 0, steps = 1;
  train::Objective objective;
  train::AdamWOptions adamw;
  double learning_rate = 1e-3, clip = 1, gamma = 1e-3;
  bool recompute = false;
};

// Tensors of a result file, in the order in which they are added.
class Results {
 public:
  void scalar(const std::string& name, double value) { add(name, DType::kF64, {}, &value, sizeof(value)); }
  void tensor(const std::string& name, const ConstTensorRef& t) {
    add(name, t.dtype(), t.shape(), t.raw(), static_cast<std::size_t>(t.num_bytes()));
  }
  void counts(const std::string& name, const std::vector<Index>& counts) {
    const std::vector<std::int32_t> values(counts.begin(), counts.end());
    add(name, DType::kI32, {static_cast<Index>(values.size())}, values.data(), values.size() * sizeof(values[0]));
  }
  void write(const std::string& path) const {
    io::SafetensorsWriter writer(path, entries_);
    writer.write(bytes_);
    writer.finish();
  }

 private:
  void add(const std::string& name, DType dtype, const Shape& shape, const void* data, std::size_t bytes) {
    entries_.push_back({name, dtype, shape});
    const auto* p = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), p, p + bytes);
  }
  std::vector<io::SafetensorsWriter::Entry> entries_;
  std::vector<std::byte> bytes_;
};

void add_losses(Results& results, const std::string& prefix, const Losses& losses, const train::Objective& objective,
                double norm) {
  results.scalar(prefix + "loss.total", losses.total(objective));
  results.scalar(prefix + "loss.main", losses.main);
  for (std::size_t k = 0; k < losses.mtp.size(); ++k)
    results.scalar(prefix + "loss.mtp" + std::to_string(k), losses.mtp[k]);
  results.scalar(prefix + "loss.balance", losses.balance);
  results.scalar(prefix + "grad_norm", norm);
}

void add_counts(Results& results, const std::string& prefix, const Losses& losses, const config::Config& c) {
  std::size_t next = 0;
  for (Index layer = 0; layer < c.num_stored_layers() && next < losses.counts.size(); ++layer)
    if (c.is_moe_layer(layer)) results.counts(prefix + "counts." + std::to_string(layer), losses.counts[next++]);
}

int run(const GradientsCommand& o) {
  const train::Precision precision = *train::precision_named(o.precision);
  const DType moments = precision == train::Precision::kF64 ? DType::kF64 : DType::kF32;
  Context ctx(o.threads, train::numerics_of(precision, o.isa.empty() ? best_isa() : parse_isa(o.isa)));
  end_when_interrupted(ctx, "interrupted; nothing was written");
  model::Transformer model(weights::open_checkpoint(o.model).config);
  const std::vector<train::Batch> batches = train::read_batches(o.batch, o.steps, model.config.vocab_size);
  train::Parameters parameters(model, precision);
  train::read_values(ctx, o.model, parameters);
  train::AdamW adamw(parameters, o.adamw, moments);
  train::MicroBatch micro_batch(model, o.recompute);
  Results results;
  for (Index step = 0; step < o.steps; ++step) {
    const train::Batch& batch = batches[static_cast<std::size_t>(step)];
    const train::Denominators den = train::denominators(batch, static_cast<Index>(model.mtp.size()));
    const Index size = o.micro_batch > 0 ? o.micro_batch : batch.sequences;
    Losses losses;
    parameters.clear_gradients(ctx);
    for (Index begin = 0; begin < batch.sequences; begin += size)
      micro_batch.run(ctx, batch.part(begin, std::min(begin + size, batch.sequences)), o.objective, den, losses);
    const double norm = train::gradient_norm(ctx, parameters);
    HADAL_CHECK(std::isfinite(norm) && std::isfinite(losses.total(o.objective)),
                "gradients: step {}: the loss is {} and the norm of the gradients {}; `hadal verify {}` looks for "
                "damaged weights",
                step, losses.total(o.objective), norm, o.model);
    if (step == 0) {
      add_losses(results, "", losses, o.objective, norm);
      add_counts(results, "", losses, model.config);
      for (const train::Parameter& p : parameters.all())
        if (p.grad) results.tensor("grad." + p.name, p.grad);
    }
    if (o.steps == 1) break;
    add_losses(results, "step" + std::to_string(step) + ".", losses, o.objective, norm);
    add_counts(results, "step" + std::to_string(step) + ".", losses, model.config);
    adamw.step(ctx, parameters, o.learning_rate, train::clip_factor(norm, o.clip));
    train::step_routing_bias(parameters, losses.counts, o.gamma);
    parameters.publish(ctx);
  }
  for (const train::Parameter& p : parameters.all())
    if (o.steps > 1) results.tensor("after." + p.name, p.value);
  results.write(o.out);
  return 0;
}

}  // namespace

void add_gradients(CLI::App& app, Action& action) {
  static GradientsCommand o;
  CLI::App* c = app.add_subcommand("gradients", "Losses and gradients of a batch, and weights after some steps: the "
                                                "parity tool of training");
  c->add_option("MODEL", o.model, "Model directory")->required();
  c->add_option("--batch", o.batch, "Safetensors with ids and targets [B, S], or step0.ids, step0.targets, ...; a target "
                                    "of -100 is none")
      ->required();
  c->add_option("--out", o.out, "File to write: loss.*, grad_norm, counts.LAYER, grad.PARAMETER of the first step, "
                                "and with --steps after.PARAMETER")
      ->required();
  c->add_option("--lambda", o.objective.mtp_weight, "Weight of the MTP losses (default 0.3)");
  c->add_option("--alpha", o.objective.balance, "Weight of the sequence-wise balance loss (default 0.0001)");
  c->add_option("--precision", o.precision,
                "f64 (exact, slow), f32 (default) or bf16 (what linears multiply is rounded to BF16)")
      ->check(CLI::IsMember({"f64", "f32", "bf16"}));
  c->add_option("--micro-batch", o.micro_batch, "Sequences computed at a time (default: all)")
      ->check(CLI::PositiveNumber);
  c->add_option("--steps", o.steps, "Optimiser steps (default 1: gradients alone)")->check(CLI::PositiveNumber);
  c->add_option("--lr", o.learning_rate, "Learning rate of AdamW (default 0.001)");
  c->add_option("--weight-decay", o.adamw.weight_decay, "Of matrices (default 0.1)");
  c->add_option("--clip", o.clip, "Largest norm of the gradients (default 1)");
  c->add_option("--gamma", o.gamma, "Speed of the routing bias (default 0.001)");
  c->add_flag("--recompute", o.recompute, "Make norms and up-projections again in the backward pass: less memory, the "
                                          "same bits");
  c->add_option("--threads", o.threads, "Threads (default: all cores this process may use)");
  c->add_option("--isa", o.isa, "Instruction set: ref, avx2, avx512, avx512-bf16 (default: the best this machine has)");
  c->footer("Example:\n  hadal gradients MODEL --batch batch.safetensors --precision f64 --out gradients.safetensors");
  c->callback([&action] { action = [] { return run(o); }; });
}

}  // namespace hadal::cli
