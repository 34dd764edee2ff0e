// Megatron's PREFIX.idx of any bytes: an error, or documents whose tokens all lie in PREFIX.bin.
#include "hadal/core/error.h"
#include "hadal/data/megatron.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  if (size == 0) return 0;
  const std::uint64_t bin_size = input[0];
  try {
    const hadal::data::MegatronIndex index(std::as_bytes(std::span(input + 1, size - 1)), bin_size);
    const std::uint64_t width = hadal::dtype_bytes(index.dtype());
    std::uint64_t sequences = 0;
    for (std::uint64_t d = 0; d < index.documents(); ++d)
      for (std::uint64_t s = index.first_of(d); s < index.first_of(d + 1); ++s, ++sequences)
        if (s >= index.sequences() || index.place(s) + index.length(s) * width > bin_size) __builtin_trap();
    if (sequences != index.sequences()) __builtin_trap();
  } catch (const hadal::Error&) {
  }
  return 0;
}
