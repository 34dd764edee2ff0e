// A loaded model rearranged for the kernels in memory of its own (ops/row_groups.h), so that the pages of its files are
// free to go.
#pragma once

#include <vector>

#include "hadal/io/checkpoint_files.h"
#include "hadal/model/transformer.h"

namespace hadal::stream {

using model::Transformer;
using weights::Weight;

// Whether products with `w` gain by its rows being grouped: it can be, and ctx.numerics.activations reads no whole rows
// of it.
bool worth_grouping(const Context& ctx, const Weight& w);

// Every matrix of `t` that only products read, in groups of rows, and with it the scales and zero points of single
// rows. Embeddings and a head that is the embedding stay as stored; kv_b_proj, whose rows are read one by one when it
// is absorbed, has both forms. Where ctx.numerics.activations is kInt8, weights in FP8 and BF16 whose products round
// them become INT8, with the same bits of every product. Of a `streamed` model kv_b_proj and the routed experts stay as
// stored too. Takes as much memory as it rearranges, which is put into `owned`. Nothing is done, and the log says why,
// if that is more than `memory` bytes.
void group_rows(Context& ctx, Transformer& t, const io::CheckpointFiles& files, std::uint64_t memory, bool streamed,
                std::vector<Tensor>& owned);

}  // namespace hadal::stream
