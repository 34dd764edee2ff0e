// A grammar of any bytes, its first byte says of which kind, compiled and followed for some steps.
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "hadal/core/error.h"
#include "hadal/grammar/structured.h"

namespace {

using hadal::grammar::GrammarCompiler;
using hadal::grammar::GrammarText;
using hadal::grammar::TokenId;

const GrammarCompiler& compiler() {
  static std::array<std::string, 257> texts;
  static const GrammarCompiler made = [] {
    std::vector<hadal::grammar::TokenText> tokens;
    for (std::size_t i = 0; i < 257; ++i) {
      texts[i] = i == 256 ? std::string("<end>") : std::string(1, static_cast<char>(i));
      tokens.push_back({texts[i], i == 256});
    }
    const std::array<TokenId, 1> ends = {256};
    return GrammarCompiler(tokens, ends);
  }();
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto kind = static_cast<GrammarText::Kind>(data[0] % 3);
  try {
    const auto c = compiler().compile({kind, std::string(reinterpret_cast<const char*>(data) + 1, size - 1)});
    for (std::size_t step = 0; step < 20 && !c->complete(); ++step) {
      std::array<std::uint32_t, 9> allowed;
      allowed.fill(~0u);
      c->mask(allowed);
      TokenId token = data[step % size];
      for (int tried = 0; (allowed[static_cast<std::size_t>(token / 32)] >> (token % 32) & 1) == 0; ++tried) {
        if (tried > 256) __builtin_trap();  // at least one stays
        token = (token + 1) % 257;
      }
      c->accept(token);
    }
  } catch (const hadal::Error&) {
  }
  return 0;
}
