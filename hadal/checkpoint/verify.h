// What is wrong with the weights of a model directory: shapes, scale grids, codes and values that no training gives.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/checkpoint/model_directory.h"
#include "hadal/core/context.h"
#include "hadal/core/error.h"
#include "hadal/config/config.h"

namespace hadal::checkpoint {

// What is looked at; the order is that of the report.
enum class Check { kConfig, kFiles, kTensors, kScales, kValues, kMtpCopies, kTokenizer, kSpecialIds, kChatTemplate };
inline constexpr Check kAllChecks[] = {Check::kConfig,    Check::kFiles,      Check::kTensors,
                                       Check::kScales,    Check::kValues,     Check::kMtpCopies,
                                       Check::kTokenizer, Check::kSpecialIds, Check::kChatTemplate};
std::string_view check_name(Check check);  // "config", "MTP copies"

struct Finding {
  Check check;
  std::string text;  // one sentence
};

struct Verification {
  std::vector<Finding> findings;
  std::vector<std::string> notes;       // worth knowing, not wrong
  std::set<Check> done;                 // what could be looked at
  std::optional<config::Config> config;  // empty if it cannot be read, which is a finding
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;

  // Runs one check; an Error it throws is a finding (a line each), not an end.
  template <class Body>
  void attempt(Check check, const Body& body) {
    try {
      body();
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& e) {
      add_lines(check, e.what());
    }
    done.insert(check);
  }
  void add(Check check, std::string text) { findings.push_back({check, std::move(text)}); }

 private:
  void add_lines(Check check, std::string_view lines);
};

// Reads every byte (`quick`: the headers alone) with bounded resident memory. Only throws if the directory cannot be
// read at all, or Interrupted.
Verification verify_weights(Context& ctx, const std::filesystem::path& directory, bool quick, const Progress& progress);

}  // namespace hadal::checkpoint
