#include "hadal/perf/tokenizer_bench.h"

#include "hadal/perf/statistics.h"

namespace hadal::perf {

std::vector<Row> measure_tokenizer(const std::function<tokenizer::Tokenizer()>& load, const std::string& text,
                                   Index runs, const Poll& poll) {
  const double megabytes = static_cast<double>(text.size()) * 1e-6;
  std::vector<double> first, again, decode;
  for (Index run = 0; run < runs; ++run) {
    poll();
    const tokenizer::Tokenizer tokenizer = load();
    std::vector<TokenId> ids;
    first.push_back(megabytes / seconds_of([&] { ids = tokenizer.encode(text); }));
    again.push_back(megabytes / seconds_of([&] { ids = tokenizer.encode(text); }));
    std::string back;
    decode.push_back(megabytes / seconds_of([&] { back = tokenizer.decode(ids); }));
    HADAL_CHECK(back == text, "tokenizer: the text and its decoded ids differ");
  }
  std::vector<Row> rows;
  for (const auto& [name, speeds] : {std::pair("first encode", &first), {"encode", &again}, {"decode", &decode}}) {
    rows.push_back({.name = std::string("tokenizer ") + name, .unit = "MB/s", .value = spread_of(*speeds)});
    rows.back().bytes = static_cast<double>(text.size());
  }
  return rows;
}

}  // namespace hadal::perf
