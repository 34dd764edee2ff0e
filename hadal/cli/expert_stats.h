// What --stats says: about a model whose experts are read from disk, and whatever a command adds.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "hadal/stream/expert_store.h"

namespace hadal::cli {

// `store` may be nullptr: everything is in memory.
std::string stats_text(const stream::ExpertStore* store);  // one line
nlohmann::ordered_json stats_json(const stream::ExpertStore* store);

// Prints the text to stderr when a command ends, however it does.
class StatsAtEnd {
 public:
  // `more` is another line.
  StatsAtEnd(bool wanted, const stream::ExpertStore* store, std::function<std::string()> more = {})
      : wanted_(wanted), store_(store), more_(std::move(more)) {}
  ~StatsAtEnd();
  StatsAtEnd(const StatsAtEnd&) = delete;
  StatsAtEnd& operator=(const StatsAtEnd&) = delete;

 private:
  bool wanted_;
  const stream::ExpertStore* store_;
  std::function<std::string()> more_;
};

}  // namespace hadal::cli
