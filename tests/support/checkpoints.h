// Model directories for tests of checkpoints: rewritten tensor by tensor, converted, verified, run.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "hadal/checkpoint/convert.h"
#include "hadal/checkpoint/verify.h"
#include "hadal/core/number_formats.h"
#include "hadal/eval/logits.h"
#include "hadal/io/json.h"
#include "hadal/stream/loader.h"
#include "tests/support/temporary_directory.h"

namespace hadal::test {

using checkpoint::StorageOptions;
using Path = std::filesystem::path;

inline void convert(const Path& from, const Path& to, const StorageOptions& storage, std::uint64_t shard = 0) {
  Context ctx(2);
  checkpoint::convert_model(ctx, from, to, {.storage = storage, .shard_bytes = shard}, {});
}

inline std::vector<std::string> findings(const Path& directory) {
  Context ctx(2);
  std::vector<std::string> sentences;
  for (const checkpoint::Finding& f : checkpoint::verify_weights(ctx, directory, false, {}).findings)
    sentences.push_back(f.text);
  return sentences;
}

inline std::string refusal(const Path& directory) {
  try {
    stream::load_model(directory, {.mtp = true});
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

inline std::map<std::string, std::string> tensors(const Path& directory) {
  std::map<std::string, std::string> out;
  const io::CheckpointFiles files(directory);
  for (const std::string& name : files.names()) {
    const ConstTensorRef t = files.find(name);
    out[name] = std::string(dtype_name(t.dtype())) +
                std::string(static_cast<const char*>(t.raw()), static_cast<std::size_t>(t.num_bytes()));
  }
  return out;
}

// The head's logits and the MTP layer's, the last tokens one at a time in the absorbed form.
inline std::vector<float> logits(const Path& directory, bool rearrange, Isa isa = best_isa()) {
  Context ctx(2, isa);
  const stream::LoadedModel model = stream::load_model(directory, {.mtp = true, .ctx = &ctx, .rearrange = rearrange});
  std::vector<config::TokenId> ids;
  for (int i = 0; i < 12; ++i)
    ids.push_back(static_cast<config::TokenId>(i * 37 % model.transformer.config.vocab_size));
  std::vector<float> all;
  for (const auto& [name, rows] : eval::compute_logits(ctx, model.transformer, ids, {.decode_from = 9})) {
    const auto* values = reinterpret_cast<const float*>(rows.bytes.data());
    all.insert(all.end(), values, values + rows.bytes.size() / sizeof(float));
  }
  return all;
}

// The same bits whether the weights are used as stored or rearranged for the kernels.
inline std::vector<float> logits(const Path& directory) {
  std::vector<float> as_stored = logits(directory, false);
  const std::vector<float> rearranged = logits(directory, true);
  EXPECT_EQ(as_stored.size(), rearranged.size());
  EXPECT_EQ(std::memcmp(as_stored.data(), rearranged.data(), as_stored.size() * sizeof(float)), 0);
  return as_stored;
}

inline double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size() || a.empty()) return HUGE_VAL;
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::isnan(a[i]) ? HUGE_VAL : std::abs(double{a[i]} - b[i]));
  return worst;
}

// A model directory rewritten tensor by tensor.
class Rewritten {
 public:
  using Edit = std::function<void(std::map<std::string, Tensor>& tensors, io::Json& config)>;

  Rewritten(const Path& source, const Edit& edit) {
    const io::CheckpointFiles files(source);
    std::map<std::string, Tensor> all;
    for (const std::string& name : files.names()) all.emplace(name, Tensor::copy_of(files.find(name)));
    io::Json config = io::read_json_file(source / "config.json");
    edit(all, config);
    std::vector<io::SafetensorsWriter::Entry> entries;
    for (const auto& [name, value] : all) entries.push_back({name, value.dtype(), value.shape()});
    io::SafetensorsWriter writer(path() / "model.safetensors", entries);
    for (const auto& [name, value] : all) writer.write(value);
    writer.finish();
    std::ofstream(path() / "config.json") << config;
  }
  const Path& path() const { return dir_.path(); }

 private:
  TemporaryDirectory dir_;
};

inline Tensor as_float(const Tensor& t) {
  Tensor out(DType::kF32, t.shape());
  for (Index i = 0; i < t->num_elements(); ++i) out->data<float>()[i] = bf16_to_float(t->data<bf16>()[i]);
  return out;
}

}  // namespace hadal::test
