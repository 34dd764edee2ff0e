#include "hadal/serve/metrics.h"

#include <algorithm>

namespace hadal::serve {
namespace {

// As label values are written: \, " and line breaks escaped.
std::string quoted(const std::string& value) {
  std::string out = "\"";
  for (const char c : value) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
  return out + '"';
}

std::string heading(const std::string& name, const char* type, const char* help) {
  return fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

// By depth, and what it brings.
std::string speculation_text(const infer::SpeculationStats& s, const std::string& labels) {
  const char* name = "vllm:spec_decode_num_accepted_tokens_per_pos_total";
  std::string out = heading(name, "counter", "Drafted tokens that were right, by their place in the draft.");
  for (std::size_t i = 0; i < s.accepted.size(); ++i)
    out += fmt::format("{}{{{},position=\"{}\"}} {}\n", name, labels, i, s.accepted[i]);
  const auto gauge = [&](const char* gauge_name, const char* help, double value) {
    out += heading(gauge_name, "gauge", help) + fmt::format("{}{{{}}} {}\n", gauge_name, labels, value);
  };
  gauge("hadal:speculation_tokens_per_step", "Tokens of a sequence that a step brings.",
        s.steps > 0 ? static_cast<double>(s.tokens) / static_cast<double>(s.steps) : 1.0);
  gauge("hadal:speculation_speedup", "Against steps without drafts, as far as measured.",
        s.seconds > 0 ? s.plain_seconds / s.seconds : 1.0);
  return out;
}

}  // namespace

void Histogram::add(double value) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  ++counts_[static_cast<std::size_t>(at)];
  sum_ += value;
}

std::string Histogram::text(const std::string& name, const std::string& labels) const {
  std::string out;
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    total += counts_[i];
    const std::string bound = i < bounds_.size() ? fmt::format("{}", bounds_[i]) : "+Inf";
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, bound, total);
  }
  return out + fmt::format("{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", name, labels, sum_, name, labels, total);
}

void Metrics::step(Duration took) {
  const std::lock_guard lock(mutex_);
  step_seconds_.add(Seconds(took).count());
}

void Metrics::load(const infer::Engine& engine, Index unfinished) {
  const std::lock_guard lock(mutex_);
  unfinished_ = unfinished;
  running_ = std::min(unfinished_, engine.options().sequences);
  speculation_ = engine.speculation();
  pages_ = engine.pages_in_use();
  preemptions_ = engine.preemptions();
  most_pages_ = engine.options().max_pages;
  if (const infer::PageStore* store = engine.pages_on_disk()) on_disk_ = store->stats();
}

void Metrics::token(bool first, Duration since) {
  const std::lock_guard lock(mutex_);
  (first ? first_token_ : between_tokens_).add(Seconds(since).count());
  ++tokens_;
}

void Metrics::ended(const infer::Completion& completion, Duration took) {
  const std::lock_guard lock(mutex_);
  ++finished_[std::string(infer::finish_reason_name(completion.finish_reason))];
  end_to_end_.add(Seconds(took).count());
  prompt_size_.add(static_cast<double>(completion.prompt_tokens));
  answer_size_.add(static_cast<double>(completion.tokens.size()));
  prompt_tokens_ += static_cast<std::uint64_t>(completion.prompt_tokens);
  cached_tokens_ += static_cast<std::uint64_t>(completion.cached_tokens);
  drafted_ += static_cast<std::uint64_t>(completion.drafted_tokens);
  accepted_ += static_cast<std::uint64_t>(completion.accepted_tokens);
}

void Metrics::prefilled(const infer::Completion& completion) {
  if (completion.finish_reason == infer::FinishReason::kCancelled) return;
  const std::lock_guard lock(mutex_);
  ++prefills_;
  prefilled_ += static_cast<std::uint64_t>(completion.prompt_tokens - completion.cached_tokens);
}

void Metrics::request(const std::string& path, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{path, status}];
}

void Metrics::used(const std::string& key, TokenUse use) {
  const std::lock_guard lock(mutex_);
  used_[key].prompt += use.prompt;
  used_[key].completion += use.completion;
}

std::string Metrics::text() const {
  const std::lock_guard lock(mutex_);
  const std::string labels = "model_name=" + quoted(model_);
  std::string out;
  const auto one = [&](const std::string& name, const char* type, const char* help, auto value) {
    out += heading(name, type, help) + fmt::format("{}{{{}}} {}\n", name, labels, value);
  };
  const auto histogram = [&](const std::string& name, const char* help, const Histogram& h) {
    out += heading(name, "histogram", help) + h.text(name, labels);
  };
  one("vllm:num_requests_running", "gauge", "Requests in the engine's passes.", running_);
  one("vllm:num_requests_waiting", "gauge", "Requests that wait for a place.", unfinished_ - running_);
  one("vllm:num_preemptions_total", "counter", "Answers that gave their pages to others and were computed again.",
      preemptions_);
  one("hadal:cache_pages", "gauge", "Pages of the cache, those kept for later prompts among them.", pages_);
  // Without a limit there is no share.
  if (most_pages_ > 0)
    one("vllm:kv_cache_usage_perc", "gauge", "Share of the cache's pages in use, 1 is all.",
        static_cast<double>(pages_) / static_cast<double>(most_pages_));
  if (on_disk_) {
    one("hadal:disk_pages", "gauge", "Pages of prompts that --kv-disk has for this model.", on_disk_->pages);
    one("hadal:disk_bytes", "gauge", "Size of all files of --kv-disk.", on_disk_->bytes);
    one("hadal:disk_pages_saved_total", "counter", "Pages written there.", on_disk_->saved);
    one("hadal:disk_pages_loaded_total", "counter", "Pages read from there.", on_disk_->loaded);
    one("hadal:disk_failures_total", "counter", "Pages that could not be written.", on_disk_->failures);
  }
  one("vllm:prompt_tokens_total", "counter", "Tokens of prompts, of requests that have ended.", prompt_tokens_);
  one("vllm:generation_tokens_total", "counter", "Tokens sampled.", tokens_);
  one("vllm:prefix_cache_queries_total", "counter", "Tokens of prompts that the cache was asked for.", prompt_tokens_);
  one("vllm:prefix_cache_hits_total", "counter", "Tokens of prompts that the cache had.", cached_tokens_);
  one("hadal:idle_prefills_total", "counter", "Answers that idle time made part of their next turn's prompt.",
      prefills_);
  one("hadal:idle_prefill_tokens_total", "counter", "Tokens computed for that.", prefilled_);
  one("vllm:spec_decode_num_draft_tokens_total", "counter", "Tokens drafted and verified.", drafted_);
  one("vllm:spec_decode_num_accepted_tokens_total", "counter", "Drafted tokens that were right.", accepted_);
  out += speculation_text(speculation_, labels);
  histogram("vllm:time_to_first_token_seconds", "From a request's arrival to its first token.", first_token_);
  histogram("vllm:inter_token_latency_seconds", "Between two tokens of an answer.", between_tokens_);
  histogram("vllm:e2e_request_latency_seconds", "From a request's arrival to its last token.", end_to_end_);
  histogram("vllm:request_prompt_tokens", "Tokens of a prompt.", prompt_size_);
  histogram("vllm:request_generation_tokens", "Tokens of an answer.", answer_size_);
  histogram("hadal:step_seconds", "A step of the engine: one pass over the model.", step_seconds_);
  out += heading("vllm:request_success_total", "counter", "Answers by what ended them.");
  for (const auto& [reason, count] : finished_)
    out += fmt::format("vllm:request_success_total{{{},finished_reason=\"{}\"}} {}\n", labels, reason, count);
  out += heading("hadal:http_requests_total", "counter", "HTTP requests by path and status.");
  for (const auto& [what, count] : requests_)
    out +=
        fmt::format("hadal:http_requests_total{{path={},status=\"{}\"}} {}\n", quoted(what.first), what.second, count);
  out += heading("hadal:key_tokens_total", "counter", "Tokens by API key.");
  for (const auto& [key, use] : used_)
    for (const auto& [kind, count] : {std::pair("prompt", use.prompt), std::pair("completion", use.completion)})
      out += fmt::format("hadal:key_tokens_total{{key={},kind=\"{}\"}} {}\n", quoted(key), kind, count);
  return out;
}

}  // namespace hadal::serve
