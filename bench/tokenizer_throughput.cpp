// Encodes each file once per repeat and prints one JSON line per file: bytes, tokens, median seconds. One thread.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "hadal/io/json.h"
#include "hadal/tokenizer/tokenizer.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: {} MODEL_DIR FILE...\n", argv[0]);
    return 2;
  }
  constexpr int kRepeats = 5;
  const auto tokenizer = hadal::tokenizer::Tokenizer::load(argv[1]);
  for (int i = 2; i < argc; ++i) {
    const std::string text = hadal::io::read_text_file(argv[i]);
    std::vector<double> seconds;
    std::size_t tokens = 0;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      const auto start = std::chrono::steady_clock::now();
      tokens = tokenizer.encode(text).size();
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    const double first = seconds.front();
    std::sort(seconds.begin(), seconds.end());
    fmt::print("{{\"file\": {}, \"bytes\": {}, \"tokens\": {}, \"first\": {:.6f}, \"seconds\": {:.6f}}}\n",
               hadal::io::Json(argv[i]).dump(), text.size(), tokens, first, seconds[kRepeats / 2]);
  }
}
