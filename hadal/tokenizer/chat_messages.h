// Messages as the callers of other engines write them (OpenAI's forms), made into values that chat templates can take.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "hadal/tokenizer/jinja/value.h"

namespace hadal::tokenizer {

// What a template does with a message.
struct MessageStyle {
  bool content_parts = false;  // walks through content that is a list of parts; otherwise their text is joined
  bool developer = false;      // knows the role developer; otherwise it is the system's
};

// - content: a list of text parts is joined by line breaks (or kept, see above); parts of another type are refused by
//   message and part. null, or none at all beside an assistant's tool calls, is none, and empty text where a template
//   needs text.
// - tool_calls: null and empty lists are left out; `arguments` is what was given, JSON text or object, and the other
//   where the template needs that one.
// - fields that are null are left out.
// The last message's text is of Origin::kContinued if `continue_final`, all else of Origin::kUser; `behind` is put
// behind that text. Errors are InvalidRequest and begin with "messages[i]".
jinja::Value message_values(const nlohmann::ordered_json& messages, const MessageStyle& style,
                            bool continue_final = false, const std::string& behind = "");

}  // namespace hadal::tokenizer
