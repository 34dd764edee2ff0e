#include "hadal/serve/quotas.h"

namespace hadal::serve {
namespace {

constexpr std::chrono::seconds kMinute{60};

int wait_for(Quotas::Clock::time_point oldest, Quotas::Clock::time_point now) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::seconds>(oldest + kMinute - now).count()) + 1;
}

}  // namespace

void Quotas::forget(Use& use, Clock::time_point now) {
  while (!use.requests.empty() && use.requests.front() + kMinute <= now) use.requests.pop_front();
  while (!use.tokens.empty() && use.tokens.front().first + kMinute <= now) {
    use.token_sum -= use.tokens.front().second;
    use.tokens.pop_front();
  }
}

void Quotas::begin(const Key& key, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  Use& use = uses_[key.id];
  forget(use, now);
  const Quota& q = key.quota;
  const auto over = [](std::int64_t limit, auto used) { return limit > 0 && static_cast<std::int64_t>(used) >= limit; };
  if (over(q.concurrent, use.running))
    throw ApiError(
        429,
        fmt::format("the key {} has {} requests under way, which are all it may have at a time", key.name, use.running),
        "", "rate_limit_exceeded", 1);
  if (over(q.requests_per_minute, use.requests.size()))
    throw ApiError(429,
                   fmt::format("the key {} has made its {} requests of this minute", key.name, q.requests_per_minute),
                   "", "rate_limit_exceeded", wait_for(use.requests.front(), now));
  if (over(q.tokens_per_minute, use.token_sum))
    throw ApiError(429, fmt::format("the key {} has used its {} tokens of this minute", key.name, q.tokens_per_minute),
                   "", "rate_limit_exceeded", wait_for(use.tokens.front().first, now));
  if (q.requests_per_minute > 0) use.requests.push_back(now);
  ++use.running;
}

void Quotas::end(const Key& key, TokenUse used, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  Use& use = uses_[key.id];
  --use.running;
  if (key.quota.tokens_per_minute == 0) return;
  use.tokens.emplace_back(now, used.prompt + used.completion);
  use.token_sum += used.prompt + used.completion;
}

}  // namespace hadal::serve
