// Bodies of the API's requests, of any bytes: errors of a request, or requests that the engine's own checks accept. The
// first byte says which path.
#include <cstdint>
#include <string>

#include "hadal/chat/markup.h"
#include "hadal/serve/api/chat.h"
#include "hadal/serve/api/embeddings.h"
#include "hadal/serve/api/json.h"
#include "hadal/serve/api/tokens.h"

using namespace hadal;

namespace {

struct Model {
  std::filesystem::path directory = "models/mini";
  config::Config config = config::load_config(directory);
  tokenizer::Tokenizer tokenizer = tokenizer::Tokenizer::load(directory);
  tokenizer::ChatTemplate chat_template = tokenizer::ChatTemplate::load(directory);
  serve::ServedModel served{.names = {"mini"},
                            .fingerprint = "fp",
                            .config = config,
                            .tokenizer = &tokenizer,
                            .chat_template = &chat_template};

  Model() {
    served.format =
        std::make_unique<chat::AnswerFormat>(tokenizer.added_tokens(), chat::markup_of(&chat_template, tokenizer));
    served.end_tokens = {1};
    served.engine = infer::resolve({}, config);
  }
};

void read(int path, const std::string& text, const serve::ServedModel& model) {
  const serve::ApiOptions options{.testing = true};
  const serve::Json body = serve::parse_body(text);
  serve::Fields fields(body);
  if (path == 0) {
    const auto request = serve::read_chat(fields, body, model, options);
    serve::engine_requests(request.generation, model, "messages");
  } else if (path == 1) {
    serve::engine_requests(serve::read_completion(fields, body, model, options), model, "prompt");
  } else if (path == 2) {
    serve::engine_requests(serve::read_embeddings(fields, model, options).generation, model, "input");
  } else if (path == 3) {
    serve::tokenize(fields, body, model);
  } else {
    serve::detokenize(fields, body, model);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Model model;
  if (size == 0) return 0;
  try {
    read(data[0] % 5, std::string(reinterpret_cast<const char*>(data) + 1, size - 1), model.served);
  } catch (const InvalidRequest&) {
  } catch (const serve::ApiError& e) {
    if (e.status >= 500) __builtin_trap();
  }
  return 0;
}
