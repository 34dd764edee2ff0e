// What happened, counted for Prometheus (text format 0.0.4). Where vLLM has a name for something, it is that one.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "hadal/infer/engine.h"

namespace hadal::serve {

// A cumulative histogram in Prometheus' sense.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void add(double value);
  std::string text(const std::string& name, const std::string& labels) const;

 private:
  std::vector<double> bounds_;
  std::vector<std::uint64_t> counts_;
  double sum_ = 0;
};

// Tokens that somebody asked for and got.
struct TokenUse {
  std::uint64_t prompt = 0, completion = 0;
};

class Metrics {
 public:
  using Duration = std::chrono::steady_clock::duration;

  explicit Metrics(std::string model) : model_(std::move(model)) {}

  // Of the engine's thread.
  void step(Duration took);
  void load(const infer::Engine& engine, Index unfinished);  // of those that somebody waits for
  // `since`: the request came, for its first token; the token before, for others.
  void token(bool first, Duration since);
  void ended(const infer::Completion& completion, Duration took);
  void prefilled(const infer::Completion& completion);  // while nobody asked for anything

  // Of those who answer.
  void request(const std::string& path, int status);
  void used(const std::string& key, TokenUse use);

  std::string text() const;

 private:
  using Seconds = std::chrono::duration<double>;

  const std::string model_;
  mutable std::mutex mutex_;
  Histogram first_token_{{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                          1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560}};
  Histogram between_tokens_{{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
                             0.4,   0.5,    0.75,  1,    2.5,   5,    7.5,   10,  20,   40,  80}};
  Histogram end_to_end_{
      {0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}};
  Histogram prompt_size_{{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}};
  Histogram answer_size_{{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}};
  Histogram step_seconds_{{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}};
  std::map<std::string, std::uint64_t> finished_;
  std::map<std::pair<std::string, int>, std::uint64_t> requests_;
  std::map<std::string, TokenUse> used_;
  std::uint64_t prompt_tokens_ = 0, cached_tokens_ = 0, tokens_ = 0, drafted_ = 0, accepted_ = 0, prefills_ = 0,
                prefilled_ = 0;
  Index unfinished_ = 0, running_ = 0, pages_ = 0, most_pages_ = 0, preemptions_ = 0;
  infer::SpeculationStats speculation_;
  std::optional<infer::PageStoreStats> on_disk_;
};

}  // namespace hadal::serve
