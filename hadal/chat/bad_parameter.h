// A field of a request that cannot be taken: the sentence, and its name for the `param` of OpenAI's error object.
#pragma once

#include <string>
#include <utility>

#include "hadal/core/error.h"

namespace hadal::chat {

class BadParameter : public InvalidRequest {
 public:
  // The sentence begins with the field's name.
  BadParameter(std::string name, const std::string& sentence)
      : InvalidRequest(name + ": " + sentence), param(std::move(name)) {}

  std::string param;
};

}  // namespace hadal::chat
