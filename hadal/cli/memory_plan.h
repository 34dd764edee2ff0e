// How a server divides the memory that --memory leaves beside weights: caches, intermediate results, experts.
#pragma once

#include "hadal/infer/engine.h"
#include "hadal/stream/loader.h"

namespace hadal::cli {

// For a model whose experts come from disk (`model.store`): a chunk, a number of pages and kept_bytes with which the
// slots for experts never run out, whatever is asked: at most half of what is left goes to caches, more only if one
// sequence of the whole context needs it, and the context is shortened if even all of it is not enough for that. Throws
// Error if there is not enough for one page.
void plan_memory(Context& ctx, const stream::LoadedModel& model, infer::EngineOptions& options);

}  // namespace hadal::cli
