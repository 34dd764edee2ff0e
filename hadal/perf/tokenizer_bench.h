// The tokenizer on a text, one thread.
#pragma once

#include <string>
#include <vector>

#include "hadal/perf/model_bench.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::perf {

// MB/s of the text: encoding by a tokenizer that has seen nothing yet, again, and decoding. `load` makes a fresh one.
std::vector<Row> measure_tokenizer(const std::function<tokenizer::Tokenizer()>& load, const std::string& text,
                                   Index runs, const Poll& poll);

}  // namespace hadal::perf
