// Which tokenizer ids belong to.
#pragma once

#include "hadal/io/digest.h"
#include "hadal/tokenizer/tokenizer.h"

namespace hadal::data {

// Of what every id stands for, and nothing else: the same for tokenizer.json and tiktoken.model of one vocabulary,
// whatever their layout, chat template or settings.
io::Digest tokenizer_identity(const tokenizer::Tokenizer& tokenizer);

}  // namespace hadal::data
