// /tokenize, /detokenize, /tokenizer_info and /apply-template, as vLLM (the last one: llama.cpp) has them.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "hadal/serve/api/fields.h"
#include "hadal/serve/served_model.h"

namespace hadal::serve {

nlohmann::ordered_json tokenize(Fields& fields, const nlohmann::ordered_json& body, const ServedModel& model);
nlohmann::ordered_json detokenize(Fields& fields, const nlohmann::ordered_json& body, const ServedModel& model);
nlohmann::ordered_json tokenizer_info(const ServedModel& model);
nlohmann::ordered_json apply_template(Fields& fields, const nlohmann::ordered_json& body, const ServedModel& model);

}  // namespace hadal::serve
