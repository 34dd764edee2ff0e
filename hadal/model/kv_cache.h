// The latent cache of one sequence: per layer and token the normalised latent c_kv and the rotated k_pe, kv_lora_rank +
// qk_rope_head_dim values (rule 17), stored in F32, BF16 or FP8 (ops/latent_entry.h). Attention reads entries as
// stored, the current token's own included. Memory grows with the sequence, up to the capacity.
#pragma once

#include <vector>

#include "hadal/core/context.h"
#include "hadal/config/config.h"
#include "hadal/ops/latent_entry.h"

namespace hadal::model {

using config::Config;

// Which form of attention computed a token, and with it its cache entries. Prompt tokens are always expanded, generated
// (or drafted) ones always absorbed, whatever the chunk: so bits depend on a token's role, not on scheduling (rule 18).
enum class Form : std::uint8_t { kExpanded, kAbsorbed };

class KvCache {
 public:
  // `dtype` is F32, BF16 or F8_E4M3. `num_layers` may be any; a sequence's main layers and its MTP layer have caches of
  // their own (rule 40).
  KvCache(const Config& config, Index num_layers, Index capacity, DType dtype = DType::kF32);

  Index length() const { return static_cast<Index>(forms_.size()); }
  Index capacity() const { return capacity_; }
  std::uint64_t allocated_bytes() const;
  const std::vector<Form>& forms() const { return forms_; }

  // Makes room for `count` more tokens; throws InvalidRequest beyond the capacity.
  void reserve(Index count);
  // Stores the entries [count, kv_lora_rank + rope] of one layer behind the current length.
  void write(Context& ctx, Index layer, const TensorRef& entries);
  // Entries [0, length + count) of a layer as float32: a reference for F32, otherwise a copy in ctx.workspace.
  TensorRef read(Context& ctx, Index layer, Index count) const;
  // The same entries as they lie in memory: F32 or BF16 [length + count, width], or U8 [length + count,
  // fp8_entry().bytes()].
  TensorRef stored(Index layer, Index count) const;
  DType dtype() const { return dtype_; }
  const ops::Fp8Entry& fp8_entry() const { return fp8_entry_; }
  // After every layer has written its entries.
  void advance(Index count, Form form) { forms_.insert(forms_.end(), static_cast<std::size_t>(count), form); }
  // Forgets everything from position `length` on: the start of another turn, or rejected drafts.
  void truncate(Index length);

 private:
  ops::Fp8Entry fp8_entry_;
  Index capacity_;
  DType dtype_;
  Index row_size_;              // elements of a stored entry: values, or bytes in FP8
  Index allocated_ = 0;         // tokens that fit without growing
  std::vector<Tensor> layers_;  // [allocated, row_size]
  std::vector<Form> forms_;
};

}  // namespace hadal::model
