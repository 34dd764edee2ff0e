#include "hadal/cli/memory_plan.h"

#include <algorithm>

#include "hadal/core/log.h"

namespace hadal::cli {
namespace {

using model::Form;

constexpr Index kSmallestChunk = 32;
// Rows whose log-probabilities are looked at together (Engine::add_logprobs).
constexpr Index kLogprobRows = 64;

// Bytes of intermediate results of a pass with the last chunk of a prompt and an answer, both as long as `length`.
std::uint64_t workspace_bytes(Context& ctx, const model::Transformer& t, const infer::EngineOptions& options,
                              Index length) {
  model::SequenceState prompt = t.new_sequence(length, options.cache_dtype, ctx.memory),
                       answer = t.new_sequence(length, options.cache_dtype, ctx.memory);
  const Index chunk = std::min(options.chunk, length);
  prompt.main.reserve(length - chunk);
  prompt.main.advance(length - chunk, Form::kExpanded);
  answer.main.reserve(length - 1);
  answer.main.advance(length - 1, Form::kExpanded);
  const std::vector<model::Pass::Run> runs = {{1, Form::kAbsorbed, answer.main}, {chunk, Form::kExpanded, prompt.main}};
  const model::Pass pass(runs, 0, *t.experts);
  const auto logits = static_cast<std::uint64_t>((options.sequences + kLogprobRows) * t.config.vocab_size) * 4;
  const auto rows = static_cast<std::uint64_t>((options.sequences + chunk) * t.config.hidden_size) * 4;
  return t.need(ctx, pass).most() + logits + 4 * rows;
}

// Of the main model's caches and MTP's.
std::uint64_t page_bytes(const model::Transformer& t, DType dtype) {
  const model::CachePools pools = t.new_pools(dtype);
  return pools.main->page_bytes() + pools.mtp->page_bytes() * static_cast<std::uint64_t>(pools.mtp_depths);
}

}  // namespace

void plan_memory(Context& ctx, const stream::LoadedModel& model, infer::EngineOptions& options) {
  const model::Transformer& t = model.transformer;
  const std::uint64_t room = model.store->most_other_bytes(), page = page_bytes(t, options.cache_dtype);
  options.kept_bytes = std::min(options.kept_bytes, room / 8);
  const std::uint64_t left = room - options.kept_bytes;
  const Index wanted = infer::resolve(options, t.config).context;
  // Shorter chunks and contexts until their intermediate results leave half of it to caches.
  const auto pages_of = [&](std::uint64_t bytes) { return static_cast<Index>(bytes / page); };
  const Index most = pages_of(left / 2);
  HADAL_CHECK(most > 0,
              "memory: beside its weights and a token's experts {} bytes are left for caches, a page of {} tokens "
              "takes {}; give more --memory or a smaller number format (--kv-cache)",
              left, model::kPageTokens, page);
  const Index length = std::min(wanted, most * model::kPageTokens);
  std::uint64_t workspace = 0;
  while ((workspace = workspace_bytes(ctx, t, options, length)) > left / 2 && options.chunk > kSmallestChunk)
    options.chunk = std::max(options.chunk / 2, kSmallestChunk);
  const std::uint64_t rest = left - std::min(left / 2, workspace);
  const Index one = model::pages_for(wanted);
  options.max_pages = std::clamp(pages_of(rest / 2), std::min(one, most), std::max(one * options.sequences, Index{1}));
  log_info("memory: {} pages for caches, {} tokens of a prompt at a time", options.max_pages, options.chunk);
  if (options.max_pages * model::kPageTokens < wanted)
    log_warning(
        "memory: it is enough for a context of {} tokens, not of {}; more --memory or a smaller number format "
        "(--kv-cache) would do",
        options.max_pages * model::kPageTokens, wanted);
}

}  // namespace hadal::cli
