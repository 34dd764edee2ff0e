#include "hadal/stream/use_counts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "hadal/core/log.h"
#include "hadal/io/json.h"

namespace hadal::stream {
namespace {

constexpr const char* kTitle = "hadal expert uses 1";
constexpr std::size_t kLargestFile = std::size_t{1} << 26;
// Old habits fade: beyond this sum all counts are halved.
constexpr std::uint64_t kMostUses = std::uint64_t{1} << 32;

std::string to_text(const std::vector<std::uint64_t>& counts, Index num_layers, Index num_experts) {
  std::string text = fmt::format("{}\n{} {}\n", kTitle, num_layers, num_experts);
  for (std::size_t i = 0; i < counts.size(); ++i)
    text += fmt::format("{}{}", counts[i], (i + 1) % static_cast<std::size_t>(num_experts) == 0 ? "\n" : " ");
  return text + fmt::format("{:016x}\n", checksum(text));
}

// Of as many layers as the file has. Throws Error if the text is not what to_text writes for a model with so many
// experts.
std::vector<std::uint64_t> from_text(const std::string& text, Index num_experts) {
  constexpr std::size_t kLastLine = 17;
  HADAL_CHECK(text.size() > kLastLine, "it is too short");
  const std::string body = text.substr(0, text.size() - kLastLine);
  HADAL_CHECK(text.substr(body.size()) == fmt::format("{:016x}\n", checksum(body)), "its checksum is wrong");
  std::istringstream in(body);
  std::string title;
  Index layers = 0, experts = 0;
  std::getline(in, title);
  HADAL_CHECK(title == kTitle && in >> layers >> experts && experts == num_experts && layers > 0 &&
                  layers <= static_cast<Index>(text.size()) / experts,
              "it is of another model or version");
  std::vector<std::uint64_t> counts(static_cast<std::size_t>(layers * experts));
  for (std::uint64_t& count : counts) HADAL_CHECK(static_cast<bool>(in >> count), "it holds too few numbers");
  return counts;
}

}  // namespace

std::uint64_t checksum(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

std::filesystem::path cache_directory() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (cache && *cache) return std::filesystem::path(cache) / "hadal";
  return home && *home ? std::filesystem::path(home) / ".cache" / "hadal" : std::filesystem::path();
}

UseCounts::UseCounts(Index num_layers, Index num_experts)
    : num_layers_(num_layers),
      num_experts_(num_experts),
      kept_(static_cast<std::size_t>(num_layers * num_experts)),
      fresh_(kept_.size()) {}

void UseCounts::load(const std::filesystem::path& file) {
  std::error_code status;
  if (file.empty() || !std::filesystem::exists(file, status)) return;
  try {
    kept_ = from_text(io::read_text_file(file, kLargestFile), num_experts_);
    kept_.resize(std::max(kept_.size(), fresh_.size()));
  } catch (const Error& e) {
    log_warning("{}: is ignored, {}; expert use is counted anew", file.string(), e.what());
  }
}

void UseCounts::save(const std::filesystem::path& file) const {
  if (file.empty()) return;
  try {
    std::error_code status;
    std::filesystem::create_directories(file.parent_path(), status);
    UseCounts now(num_layers_, num_experts_);
    now.load(file);
    now.num_layers_ = static_cast<Index>(now.kept_.size()) / num_experts_;
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < fresh_.size(); ++i) sum += now.kept_[i] += fresh_[i];
    for (std::uint64_t& count : now.kept_) count >>= sum > kMostUses ? 1 : 0;
    io::write_text_file_atomically(file, to_text(now.kept_, now.num_layers_, num_experts_));
  } catch (const std::exception& e) {
    log_warning("{}; which experts are used most is not remembered", e.what());
  }
}

}  // namespace hadal::stream
