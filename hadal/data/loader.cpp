#include "hadal/data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "hadal/data/mixture.h"
#include "hadal/data/token_stream.h"

namespace hadal::data {
// A batch on its way.
struct Loader::Job {
  Index batch = 0, length = 0;
  std::vector<PlannedRow> rows;
  Mixture::Positions after;
  Batch out;
  // Under the loader's mutex:
  std::size_t taken = 0, finished = 0;
  std::exception_ptr error;
};

struct Loader::State {
  State(const Dataset& dataset_in, const LoaderOptions& options_in)
      : dataset(dataset_in), options(options_in), mixture(dataset, options), returned(mixture.begin()) {
    for (const Mixture::Source& s : mixture.sources()) streams.emplace_back(dataset.shards(s.place, options.split));
    padding = dataset.info().eos.value_or(0);
    planned = returned;
    for (int i = 0; i < options.workers; ++i) workers.emplace_back([this] { work(); });
  }

  ~State() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    for (std::thread& t : workers) t.join();
  }

  // False when there are no sequences left.
  bool plan(Index batch, Index length) {
    auto job = std::make_shared<Job>();
    job->batch = batch;
    job->length = length;
    job->after = planned;
    bool any = false;
    for (Index b = 0; b < batch; ++b) {
      job->rows.push_back(mixture.next(job->after, static_cast<std::uint64_t>(length)));
      any = any || job->rows.back().source >= 0;
    }
    if (!any) return false;
    for (Tensor* t : {&job->out.ids, &job->out.targets, &job->out.documents}) *t = Tensor(DType::kI32, {batch, length});
    for (const PlannedRow& row : job->rows) {
      job->out.sources.push_back(
          row.source < 0 ? -1 : static_cast<int>(mixture.sources()[static_cast<std::size_t>(row.source)].place));
      job->out.tokens += static_cast<Index>(row.count);
    }
    planned = job->after;
    jobs.push_back(std::move(job));
    return true;
  }

  void fill(Job& job, std::size_t number) const {
    const PlannedRow& row = job.rows[number];
    const auto length = static_cast<std::size_t>(job.length);
    const auto of = [&](const Tensor& t) { return std::span(t->data<std::int32_t>() + number * length, length); };
    const auto ids = of(job.out.ids), targets = of(job.out.targets), documents = of(job.out.documents);
    const std::size_t count = row.count;
    std::fill(ids.begin() + static_cast<std::ptrdiff_t>(count), ids.end(), padding);
    std::fill(targets.begin(), targets.end(), kIgnored);
    std::fill(documents.begin() + static_cast<std::ptrdiff_t>(count), documents.end(), -1);
    if (count == 0) return;
    const TokenStream& stream = streams[static_cast<std::size_t>(row.source)];
    // The very last token has nothing behind it.
    std::vector<TokenId> tokens(std::min<std::uint64_t>(count + 1, stream.size() - row.first));
    stream.read(row.first, tokens);
    std::copy_n(tokens.begin(), count, ids.begin());
    std::copy(tokens.begin() + 1, tokens.end(), targets.begin());
    std::vector<bool> ends;
    stream.documents(row.first, documents.first(count), ends);
    for (std::size_t i = 0; options.within_documents && i < count; ++i)
      if (ends[i]) targets[i] = kIgnored;
  }

  // Takes a row and fills it with the mutex open; false if there is none to be taken.
  bool fill_one(std::unique_lock<std::mutex>& lock, bool first_only) {
    std::shared_ptr<Job> job;
    for (const auto& j : jobs) {
      if (j->taken < j->rows.size()) job = j;
      if (job || first_only) break;
    }
    if (!job) return false;
    const std::size_t row = job->taken++;
    lock.unlock();
    std::exception_ptr error;
    try {
      fill(*job, row);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error && !job->error) job->error = error;
    if (++job->finished == job->rows.size()) ready.notify_all();
    return true;
  }

  void work() {
    std::unique_lock lock(mutex);
    while (!stopping)
      if (!fill_one(lock, false)) wake.wait(lock);
  }

  void forget_jobs() {
    jobs.clear();
    planned = returned;
  }

  const Dataset& dataset;
  const LoaderOptions options;
  const Mixture mixture;
  std::vector<TokenStream> streams;
  TokenId padding = 0;

  mutable std::mutex mutex;
  std::condition_variable wake, ready;
  bool stopping = false;
  std::deque<std::shared_ptr<Job>> jobs;  // in the order in which they are given out
  Mixture::Positions returned, planned;   // behind what was given out, and behind the last job
  std::vector<std::thread> workers;
};

Loader::Loader(const Dataset& dataset, const LoaderOptions& options)
    : state_(std::make_unique<State>(dataset, options)) {}

Loader::Loader(const Dataset& dataset, const LoaderOptions& options, const LoaderState& state)
    : Loader(dataset, options) {
  const std::string where = "state of the data loader";
  HADAL_CHECK(state.dataset == dataset.digest(), "{}: was saved with other data than {} holds", where,
              dataset.directory().string());
  HADAL_CHECK(state.split == options.split, "{}: is of the {} split, the {} split is read", where,
              split_name(state.split), split_name(options.split));
  HADAL_CHECK(state.seed == options.seed, "{}: was saved with seed {}, not {}", where, state.seed, options.seed);
  HADAL_CHECK(state.block == static_cast<std::uint64_t>(options.block),
              "{}: was saved with blocks of {} tokens, not {}", where, state.block, options.block);
  HADAL_CHECK(state.shuffle == options.shuffle, "{}: was saved with{} shuffling", where, state.shuffle ? "" : "out");
  state_->mixture.check(state.sources, where);
  const std::lock_guard lock(state_->mutex);
  state_->returned = state_->planned = state.sources;
}

Loader::~Loader() = default;

bool Loader::next(Index batch_size, Index sequence_length, Batch& out) {
  State& s = *state_;
  HADAL_CHECK(batch_size > 0 && sequence_length > 0, "loader: a batch of {} sequences of {} tokens was asked for",
              batch_size, sequence_length);
  HADAL_CHECK(s.options.block % sequence_length == 0,
              "loader: a sequence of {} tokens does not divide a block of {}; make it a multiple of every length",
              sequence_length, s.options.block);
  std::unique_lock lock(s.mutex);
  if (!s.jobs.empty() && (s.jobs[0]->batch != batch_size || s.jobs[0]->length != sequence_length)) s.forget_jobs();
  const auto wanted = static_cast<std::size_t>(1 + (s.options.workers > 0 ? std::max(0, s.options.prefetch) : 0));
  while (s.jobs.size() < wanted && s.plan(batch_size, sequence_length)) continue;
  if (s.jobs.empty()) return false;
  s.wake.notify_all();
  const std::shared_ptr<Job> job = s.jobs[0];
  while (s.fill_one(lock, true)) continue;
  s.ready.wait(lock, [&] { return job->finished == job->rows.size(); });
  if (job->error) {
    s.forget_jobs();
    std::rethrow_exception(job->error);
  }
  s.jobs.pop_front();
  s.returned = job->after;
  out = std::move(job->out);
  return true;
}

LoaderState Loader::state() const {
  const std::lock_guard lock(state_->mutex);
  const LoaderOptions& o = state_->options;
  return {state_->dataset.digest(), o.split, o.seed, static_cast<std::uint64_t>(o.block), o.shuffle, state_->returned};
}

std::optional<std::uint64_t> Loader::total_tokens() const {
  std::uint64_t sum = 0;
  for (const Mixture::Source& s : state_->mixture.sources()) {
    if (!s.limit) return std::nullopt;
    sum += *s.limit;
  }
  return sum;
}

}  // namespace hadal::data
