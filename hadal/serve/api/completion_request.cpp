// The body of /v1/completions.
#include "hadal/serve/api/generation.h"
#include "hadal/serve/api/json.h"

namespace hadal::serve {
namespace {

constexpr std::int64_t kDefaultMaxTokens = 16;  // OpenAI's

// The model's tokens for filling a hole, or ApiError.
TokenId fim_token(const ServedModel& model, const char* name) {
  const auto id = model.needs_tokenizer().added_token(name);
  if (!id)
    throw ApiError::invalid("suffix",
                            "suffix: this model has no token " + std::string(name) + " and cannot fill in the middle");
  return *id;
}

class PromptReader {
 public:
  PromptReader(Fields& fields, const char* field, const ServedModel& model) : model_(model), field_(field) {
    fields.flag("add_special_tokens", add_bos_);
    fields.flag("parse_special", parse_special_);
    if (const Json* v = fields.find("suffix")) {
      std::string suffix;
      fields.text("suffix", suffix);
      if (v->is_string()) suffix_ = suffix;
    }
    fields.integer("truncate_prompt_tokens", truncate_, -1, kMostTokens);
  }

  std::vector<Prompt> read(const Json& v) const {
    if (v.is_string()) return {of_text(v.get<std::string>())};
    if (!v.is_array() || v.empty()) refuse(v);
    if (v[0].is_number()) return {of_ids(v)};
    std::vector<Prompt> out;
    for (const Json& one : v) {
      if (one.is_string() != v[0].is_string() || (!one.is_string() && !one.is_array())) refuse(v);
      out.push_back(one.is_string() ? of_text(one.get<std::string>()) : of_ids(one));
    }
    return out;
  }

 private:
  [[noreturn]] void refuse(const Json& v) const {
    throw ApiError::invalid(
        field_, std::string(field_) + " is " + shown(v) +
                    ", a string, a list of strings, a list of token ids or a list of such lists was expected");
  }

  Prompt of_ids(const Json& v) const {
    if (suffix_) throw ApiError::invalid("suffix", "suffix goes with a prompt that is text");
    Prompt out;
    for (const Json& id : v) {
      if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() > kMostTokens) refuse(v);
      out.ids.push_back(id.get<TokenId>());
    }
    cut(out.ids);
    return out;
  }

  // Text stays text, whatever control tokens it spells, unless the request says that they are meant.
  Prompt of_text(const std::string& text) const {
    Prompt out{.ids = {}, .text = text};
    out.ids = suffix_ ? with_hole(text) : model_.encode(text, add_bos_, parse_special_);
    cut(out.ids);
    return out;
  }

  // What is before, the hole, what is behind it; then the model writes what belongs into it (PSM, as V3 was trained).
  std::vector<TokenId> with_hole(const std::string& text) const {
    std::vector<TokenId> ids;
    if (const auto bos = add_bos_ ? model_.bos() : std::nullopt) ids.push_back(*bos);
    const auto add = [&](const char* token, const std::string& behind) {
      ids.push_back(fim_token(model_, token));
      const auto more = model_.encode(behind, false);
      ids.insert(ids.end(), more.begin(), more.end());
    };
    add("<｜fim▁begin｜>", text);
    add("<｜fim▁hole｜>", *suffix_);
    add("<｜fim▁end｜>", "");
    return ids;
  }

  // The last tokens, as vLLM does.
  void cut(std::vector<TokenId>& ids) const {
    const std::int64_t keep = truncate_ == -1 ? model_.engine.context : truncate_;
    if (keep > 0 && static_cast<std::int64_t>(ids.size()) > keep) ids.erase(ids.begin(), ids.end() - keep);
  }

  const ServedModel& model_;
  const char* field_;
  bool add_bos_ = true, parse_special_ = false;
  std::optional<std::string> suffix_;
  std::int64_t truncate_ = 0;
};

void read_completion_limits(Fields& fields, Generation& out) {
  std::int64_t max_tokens = kDefaultMaxTokens, logprobs = -1, best_of = 0;
  fields.integer("max_tokens", max_tokens, 0, kMostTokens);
  fields.integer("max_completion_tokens", max_tokens, 0, kMostTokens);
  fields.integer("logprobs", logprobs, 0, 20);
  fields.integer("best_of", best_of, 1, kMostTokens);
  if (best_of > 0 && best_of != out.n)
    fields.refuse("best_of", fmt::format("{}, which is not n; answers are not ranked here", best_of));
  fields.flag("echo", out.echo);
  out.nothing_new = max_tokens == 0;
  if (out.nothing_new && !out.echo && out.request.prompt_logprobs < 0)
    fields.refuse("max_tokens", "0, which has a meaning with echo or prompt_logprobs only");
  out.request.max_tokens = out.nothing_new ? infer::kNoAnswer : max_tokens;
  out.request.sampling.top_logprobs = static_cast<int>(logprobs);
  if (out.echo && logprobs >= 0)
    out.request.prompt_logprobs = std::max(out.request.prompt_logprobs, static_cast<int>(logprobs));
}

}  // namespace

std::vector<Prompt> read_prompts(Fields& fields, const char* field, const Json& value, const ServedModel& model,
                                 const ApiOptions& options) {
  std::vector<Prompt> out = PromptReader(fields, field, model).read(value);
  if (static_cast<std::int64_t>(out.size()) > options.most_prompts)
    fields.refuse(field,
                  fmt::format("a list of {}, at most {} are allowed in one request", out.size(), options.most_prompts));
  return out;
}

Generation read_completion(Fields& fields, const Json& body, const ServedModel& model, const ApiOptions& options) {
  Generation out;
  read_generation(fields, model, options, out);
  const Json* prompt = fields.find("prompt");
  if (!prompt) throw ApiError::invalid("prompt", "prompt is missing");
  out.prompts = read_prompts(fields, "prompt", *prompt, model, options);
  read_completion_limits(fields, out);
  constrain({.guided = read_guided(fields, body)}, model, out);
  return out;
}

}  // namespace hadal::serve
