#include "hadal/data/tokenizer_identity.h"

namespace hadal::data {

io::Digest tokenizer_identity(const tokenizer::Tokenizer& tokenizer) {
  io::Sha256 sum;
  sum.text("hadal token ids 1").number(static_cast<std::uint64_t>(tokenizer.vocab_size()));
  for (tokenizer::TokenId id = 0; id < tokenizer.vocab_size(); ++id)
    if (tokenizer.is_assigned(id)) sum.number(static_cast<std::uint64_t>(id)).text(tokenizer.token_bytes(id));
  return sum.finish();
}

}  // namespace hadal::data
