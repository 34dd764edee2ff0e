#include "hadal/serve/api/embeddings.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "hadal/serve/api/json.h"

namespace hadal::serve {
namespace {

std::string base64(std::span<const float> values) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<unsigned char> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < n ? bytes[i + k] : 0u);
    for (std::size_t k = 0; k < 4; ++k) out += k <= n ? kDigits[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::vector<float> of_length_one(std::vector<float> values) {
  double sum = 0;
  for (const float v : values) sum += static_cast<double>(v) * v;
  const double length = std::sqrt(sum);
  if (length > 0)
    for (float& v : values) v = static_cast<float>(v / length);
  return values;
}

}  // namespace

EmbeddingRequest read_embeddings(Fields& fields, const ServedModel& model, const ApiOptions& options) {
  EmbeddingRequest out;
  const Json* input = fields.find("input");
  if (!input) throw ApiError::invalid("input", "input is missing");
  out.generation.prompts = read_prompts(fields, "input", *input, model, options);
  std::string format = "float", pooling = "last";
  fields.text("encoding_format", format);
  if (format != "float" && format != "base64")
    fields.refuse("encoding_format", format + ", float or base64 was expected");
  fields.text("pooling", pooling);
  if (pooling != "last" && pooling != "mean") fields.refuse("pooling", pooling + ", last or mean was expected");
  fields.flag("normalize", out.normalize);
  std::int64_t dimensions = model.config.hidden_size;
  fields.integer("dimensions", dimensions, model.config.hidden_size, model.config.hidden_size);
  fields.ignore({"model", "user"});
  out.base64 = format == "base64";
  out.generation.request.pooling = pooling == "mean" ? infer::Pooling::kMean : infer::Pooling::kLast;
  out.generation.request.max_tokens = infer::kNoAnswer;
  out.generation.request.deadline = infer::Request::Clock::now() + std::chrono::seconds(options.request_seconds);
  return out;
}

EmbeddingAnswer::EmbeddingAnswer(const ServedModel& model, EngineLoop& loop, EmbeddingRequest request,
                                 std::unique_ptr<Account> account)
    : model_(model), loop_(loop), request_(std::move(request)), account_(std::move(account)) {}

EmbeddingAnswer::~EmbeddingAnswer() {
  for (std::size_t i = 0; i < channels_.size(); ++i)
    if (!completions_[i]) loop_.end(channels_[i], infer::FinishReason::kCancelled);
  if (account_) account_->charge({static_cast<std::uint64_t>(tally().prompt_tokens), 0});
}

void EmbeddingAnswer::begin(const Wake& wake) {
  if (account_) account_->enter(request_.generation.request);
  for (infer::Request& request : engine_requests(request_.generation, model_, "input"))
    channels_.push_back(loop_.submit(std::move(request), wake));
  completions_.resize(channels_.size());
}

Output EmbeddingAnswer::advance(bool) {
  for (std::size_t i = 0; i < channels_.size(); ++i) {
    Received received = channels_[i]->take();
    if (received.completion) completions_[i] = std::move(received.completion);
    const auto failed = failure_of(received, completions_[i]);
    if (failed) return {.whole = failed->response(), .ended = true};
  }
  if (!std::all_of(completions_.begin(), completions_.end(), [](const auto& c) { return c.has_value(); })) return {};
  Json data = Json::array();
  for (std::size_t i = 0; i < completions_.size(); ++i) {
    std::vector<float> values = completions_[i]->embedding;
    if (request_.normalize) values = of_length_one(std::move(values));
    Json embedding = request_.base64 ? Json(base64(values)) : Json(values);
    data.push_back({{"object", "embedding"}, {"index", i}, {"embedding", std::move(embedding)}});
  }
  const std::int64_t tokens = tally().prompt_tokens;
  const Json whole = {{"object", "list"},
                      {"data", std::move(data)},
                      {"model", model_.name()},
                      {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}};
  return {.whole = HttpResponse{.body = text_of(whole)}, .ended = true};
}

Tally EmbeddingAnswer::tally() const {
  Tally out;
  if (account_) out.key = account_->name();
  for (const Prompt& p : request_.generation.prompts) out.prompt_tokens += static_cast<std::int64_t>(p.ids.size());
  for (const auto& c : completions_)
    if (c) out.cached_tokens += c->cached_tokens;
  return out;
}

}  // namespace hadal::serve
