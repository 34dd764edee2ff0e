// What --stats says about a model whose experts are read from disk.
#pragma once

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
  StatsAtEnd(bool wanted, const stream::ExpertStore* store) : wanted_(wanted), store_(store) {}
  ~StatsAtEnd();
  StatsAtEnd(const StatsAtEnd&) = delete;
  StatsAtEnd& operator=(const StatsAtEnd&) = delete;

 private:
  bool wanted_;
  const stream::ExpertStore* store_;
};

}  // namespace hadal::cli
