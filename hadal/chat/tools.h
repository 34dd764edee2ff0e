// The tools of a request, and which of them an answer may, must or must not call.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace hadal::chat {

struct Tool {
  std::string name;
  std::string parameters;  // JSON schema of the arguments
  bool strict = false;     // the arguments always match it
};

enum class ToolChoice { kAuto, kNone, kRequired, kNamed };

struct ToolRequest {
  std::vector<Tool> tools;
  ToolChoice choice = ToolChoice::kNone;  // kNone too if there are no tools
  std::string named;                      // with kNamed
  bool parallel = true;                   // several calls in an answer

  bool may_call() const { return choice != ToolChoice::kNone; }
};

// From tools, tool_choice and parallel_tool_calls of a request. Throws BadParameter.
ToolRequest read_tools(const nlohmann::ordered_json& request);

}  // namespace hadal::chat
