// Float32 logits of every position, and on request everything a trace sees: the numbers that parity with other
// implementations is judged by.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "hadal/model/transformer.h"

namespace hadal::eval {

struct LogitsOptions {
  Index chunk = 1024;      // prompt tokens at a time; changes no bit
  Index decode_from = -1;  // from this position on one token at a time, in the absorbed form; -1: nowhere
  bool trace = false;
  DType cache_dtype = DType::kF32;
};

// A tensor that grows by rows.
struct Rows {
  DType dtype = DType::kF32;
  Shape row_shape;
  Index count = 0;
  std::vector<std::byte> bytes;
};

// "logits" [S, vocab], "mtp0.logits" [S - 1, vocab], ..., and with `trace` "layer3.topk_idx" and so on. `progress` is
// told the positions done.
std::map<std::string, Rows> compute_logits(Context& ctx, const model::Transformer& transformer,
                                           std::span<const config::TokenId> ids, const LogitsOptions& options,
                                           const std::function<void(Index)>& progress = {});

void write_rows(const std::filesystem::path& path, const std::map<std::string, Rows>& tensors);

}  // namespace hadal::eval
