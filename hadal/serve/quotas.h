// Who may ask now: the requests and tokens of the last minute, and those under way, of every key.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <mutex>
#include <string>

#include "hadal/serve/api/error.h"
#include "hadal/serve/keys.h"
#include "hadal/serve/metrics.h"

namespace hadal::serve {

class Quotas {
 public:
  using Clock = std::chrono::steady_clock;

  // A request begins; throws ApiError (429, with the seconds to wait) if the key has no more.
  void begin(const Key& key, Clock::time_point now = Clock::now());
  // It has ended, and these tokens were used. A request may use more than was left; the next one waits for it.
  void end(const Key& key, TokenUse use, Clock::time_point now = Clock::now());

 private:
  struct Use {
    std::deque<Clock::time_point> requests;
    std::deque<std::pair<Clock::time_point, std::uint64_t>> tokens;
    std::uint64_t token_sum = 0;
    std::int64_t running = 0;
  };
  static void forget(Use& use, Clock::time_point now);

  std::mutex mutex_;
  std::map<std::int64_t, Use> uses_;  // by the key's id
};

}  // namespace hadal::serve
