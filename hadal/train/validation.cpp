#include "hadal/train/validation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "hadal/infer/engine.h"

namespace hadal::train {
namespace {

constexpr Index kLogitRows = 32;  // in memory at a time

double minus_log_probability(std::span<const float> logits, TokenId target) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(double{x} - largest);
  return largest + std::log(sum) - double{logits[static_cast<std::size_t>(target)]};
}

// A sequence up to its last target.
struct Scored {
  std::span<const TokenId> ids, targets;
};

std::vector<Scored> sequences_of(const Batch& batch) {
  std::vector<Scored> out;
  for (Index s = 0; s < batch.sequences; ++s) {
    const auto row = [&](const std::vector<TokenId>& all) {
      return std::span(all).subspan(static_cast<std::size_t>(s * batch.length), static_cast<std::size_t>(batch.length));
    };
    const auto targets = row(batch.targets);
    std::size_t count = targets.size();
    while (count > 0 && targets[count - 1] == kIgnored) --count;
    if (count > 0) out.push_back({row(batch.ids).first(count), targets.first(count)});
  }
  return out;
}

class Scorer {
 public:
  Scorer(Context& ctx, const model::Transformer& model, const tokenizer::Tokenizer& tokenizer)
      : ctx_(ctx), model_(model), tokenizer_(tokenizer) {}

  void score(const std::vector<Scored>& sequences) {
    const Workspace::Scope scope(ctx_.workspace);
    std::vector<model::SequenceState> states;
    std::vector<model::Segment> segments;
    std::vector<TokenId> targets;
    for (const Scored& s : sequences) {
      states.push_back(model_.new_sequence(static_cast<Index>(s.ids.size())));
      targets.insert(targets.end(), s.targets.begin(), s.targets.end());
    }
    for (std::size_t i = 0; i < states.size(); ++i)
      segments.push_back({sequences[i].ids, states[i], model::Form::kExpanded});
    const TensorRef hidden = model_.hidden(ctx_, segments);
    for (Index begin = 0; begin < hidden.size(0); begin += kLogitRows) {
      const Workspace::Scope of_logits(ctx_.workspace);
      const Index end = std::min(begin + kLogitRows, hidden.size(0));
      const TensorRef logits = model_.logits(ctx_, hidden.rows(begin, end));
      for (Index i = begin; i < end; ++i)
        add({logits[i - begin].data<float>(), static_cast<std::size_t>(logits.size(1))},
            targets[static_cast<std::size_t>(i)]);
    }
  }

  Validation result;

 private:
  void add(std::span<const float> logits, TokenId target) {
    if (target == kIgnored) return;
    const double nats = minus_log_probability(logits, target);
    result.nats += nats;
    ++result.tokens;
    if (tokenizer_.is_special(target)) return;
    result.text_nats += nats;
    result.bytes += tokenizer_.token_bytes(target).size();
  }

  Context& ctx_;
  const model::Transformer& model_;
  const tokenizer::Tokenizer& tokenizer_;
};

}  // namespace

double Validation::bits_per_byte() const {
  return bytes > 0 ? text_nats / (std::numbers::ln2 * static_cast<double>(bytes)) : 0;
}

Validation validate(Context& ctx, const model::Transformer& model, const TrainingData& data, Index block, Index length,
                    Index sequences, Index at_a_time) {
  data::LoaderOptions options;
  options.split = data::Split::kValidation;
  options.block = block;
  options.shuffle = false;
  options.epochs = 1;
  options.workers = 0;
  data::Loader loader(*data.dataset, options);
  Scorer scorer(ctx, model, data.tokenizer);
  data::Batch batch;
  ExpertCounter counter(model.config);
  const Observers::Watch watch(ctx.observers, counter);
  for (Index done = 0; done < sequences; done += at_a_time) {
    if (!loader.next(std::min(at_a_time, sequences - done), length, batch)) break;
    const Batch ids = to_batch(batch);
    if (const auto scored = sequences_of(ids); !scored.empty()) scorer.score(scored);
  }
  scorer.result.counts = counter.counts();
  return scorer.result;
}

std::string sample_text(Context& ctx, const model::Transformer& model, const TrainingData& data,
                        const std::string& prompt, Index tokens, std::uint64_t seed) {
  infer::Request request;
  if (const auto before = data.before_text()) request.prompt.push_back(*before);
  const auto ids = data.tokenizer.encode(prompt, tokenizer::AddedTokenMode::kIgnore);
  request.prompt.insert(request.prompt.end(), ids.begin(), ids.end());
  HADAL_CHECK(!request.prompt.empty(), "log.sample_prompts: an empty text is nothing to go on from here");
  request.sampling.temperature = 0.8;
  request.sampling.top_p = 0.95;
  request.sampling.seed = seed;
  request.stop_token_ids = model.config.eos_token_ids;
  if (const auto eos = data.dataset->info().eos) request.stop_token_ids.push_back(*eos);
  const auto room = model.config.max_position_embeddings - static_cast<Index>(request.prompt.size());
  request.max_tokens = std::min(tokens, room);
  if (request.max_tokens <= 0) return "";
  infer::Engine engine(ctx, model, {.num_tokens = data.tokenizer.vocab_size()});
  return data.tokenizer.decode(engine.generate(request).tokens, true);
}

}  // namespace hadal::train
