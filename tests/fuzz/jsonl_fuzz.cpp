// Lines of `generate --input` of any bytes: errors or tasks whose settings the sampler accepts.
#include <cstdint>
#include <string>

#include "hadal/cli/generation_task.h"
#include "hadal/core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    hadal::cli::GenerationTask defaults;
    defaults.max_tokens = 1;
    for (const auto& task : hadal::cli::parse_tasks(text, "input", defaults)) {
      hadal::infer::validate(task.sampling);
      if (task.n < 1 || task.max_tokens < 1) __builtin_trap();
    }
  } catch (const hadal::Error&) {
  }
  return 0;
}
