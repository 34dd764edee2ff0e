// What --stats says about a model whose experts are read from disk.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "hadal/model/expert_store.h"

namespace hadal::cli {

// `store` may be nullptr: everything is in memory.
std::string stats_text(const model::ExpertStore* store);  // one line
nlohmann::ordered_json stats_json(const model::ExpertStore* store);

// Prints the text to stderr when a command ends, however it does.
class StatsAtEnd {
 public:
  StatsAtEnd(bool wanted, const model::ExpertStore* store) : wanted_(wanted), store_(store) {}
  ~StatsAtEnd();
  StatsAtEnd(const StatsAtEnd&) = delete;
  StatsAtEnd& operator=(const StatsAtEnd&) = delete;

 private:
  bool wanted_;
  const model::ExpertStore* store_;
};

}  // namespace hadal::cli
