#include "hadal/serve/api/generation.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <random>

#include "hadal/chat/constraints.h"
#include "hadal/serve/api/json.h"

namespace hadal::serve {
namespace {

constexpr std::size_t kMostStops = 64, kLongestStop = 4096;

std::uint64_t random_seed() {
  std::random_device device;
  // What JSON readers keep whole.
  return (static_cast<std::uint64_t>(device()) << 20 ^ device()) & ((std::uint64_t{1} << 53) - 1);
}

void read_logit_bias(Fields& fields, infer::SamplingParams& s) {
  const Json* v = fields.object("logit_bias");
  if (!v) return;
  for (const auto& [key, bias] : v->items()) {
    const bool id = !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == key.npos;
    if (!id || !bias.is_number())
      fields.refuse("logit_bias",
                    fmt::format("an object with \"{}\": {}, a token id and a number were expected", key, shown(bias)));
    s.logit_bias[static_cast<TokenId>(std::stol(key))] = bias.get<double>();
  }
}

void read_ends(Fields& fields, const ServedModel& model, Generation& out) {
  read_stops(fields, out.stop);
  if (!out.stop.empty()) model.needs_tokenizer();
  fields.flag("include_stop_str_in_output", out.include_stop);
  fields.ids("stop_token_ids", out.end_tokens);
  bool ignore_eos = false;
  fields.flag("ignore_eos", ignore_eos);
  if (!ignore_eos) out.end_tokens.insert(out.end_tokens.end(), model.end_tokens.begin(), model.end_tokens.end());
  out.request.stop_token_ids = out.end_tokens;
}

// "prefix" as DeepSeek's API spells it: the last message is the beginning of the answer.
bool ends_with_prefix(const Json& messages) {
  if (!messages.is_array() || messages.empty()) return false;
  const Json& last = messages.back();
  return last.value("role", Json()) == "assistant" && last.value("prefix", Json()) == true;
}

}  // namespace

void read_sampling(Fields& fields, infer::SamplingParams& s) {
  fields.number("temperature", s.temperature);
  fields.number("top_p", s.top_p);
  fields.number("min_p", s.min_p);
  fields.number("repetition_penalty", s.repetition_penalty);
  fields.number("presence_penalty", s.presence_penalty);
  fields.number("frequency_penalty", s.frequency_penalty);
  std::int64_t top_k = s.top_k, seed = 0;
  fields.integer("top_k", top_k, -1, kMostTokens);
  s.top_k = std::max<std::int64_t>(top_k, 0);  // others write -1 for all
  if (fields.find("seed")) {
    fields.integer("seed", seed, std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max());
    s.seed = static_cast<std::uint64_t>(seed);
  }
  read_logit_bias(fields, s);
  infer::validate(s);
}

void read_stops(Fields& fields, std::vector<std::string>& stop) {
  fields.texts("stop", stop);
  if (stop.size() > kMostStops)
    fields.refuse("stop", fmt::format("a list of {}, at most {} are allowed", stop.size(), kMostStops));
  for (const std::string& one : stop) {
    if (one.empty()) fields.refuse("stop", "an empty string, or has one");
    if (one.size() > kLongestStop) fields.refuse("stop", fmt::format("longer than {} bytes", kLongestStop));
  }
}

void read_render(Fields& fields, const Json& messages, tokenizer::RenderOptions& r) {
  r.continue_final_message = ends_with_prefix(messages);
  fields.flag("add_generation_prompt", r.add_generation_prompt);
  fields.flag("continue_final_message", r.continue_final_message);
  fields.text("chat_template", r.template_name);
  if (r.template_name.find('{') != std::string::npos)
    fields.refuse("chat_template",
                  "not the name of one of the model's templates; a template inside a request is not supported");
  if (const Json* v = fields.list("documents")) r.variables["documents"] = *v;
}

namespace {

void read_stream_options(Fields& fields, Generation& out) {
  fields.flag("stream", out.stream);
  const Json* v = fields.object("stream_options");
  if (!v) return;
  Fields options(*v, "stream_options.");
  options.flag("include_usage", out.include_usage);
  options.flag("continuous_usage_stats", out.continuous_usage);
}

void read_forced(Fields& fields, const ServedModel& model, const ApiOptions& options, Generation& out) {
  if (!options.testing || !fields.find("force_tokens")) return;
  const Json* v = fields.find("force_tokens");
  if (v->is_string())
    out.forced = model.needs_tokenizer().encode(v->get<std::string>());  // control tokens are meant
  else
    fields.ids("force_tokens", out.forced);
  for (const TokenId id : out.forced)
    if (id >= model.engine.num_tokens)
      fields.refuse("force_tokens", fmt::format("a list with {}, which is no token", id));
}

}  // namespace

infer::SamplingParams default_sampling(const io::GenerationConfig& defaults) {
  infer::SamplingParams s;
  const bool greedy = defaults.do_sample && !*defaults.do_sample;
  s.temperature = greedy ? 0.0 : defaults.temperature.value_or(1.0);
  s.top_p = defaults.top_p.value_or(1.0);
  s.top_k = defaults.top_k.value_or(0);
  s.min_p = defaults.min_p.value_or(0.0);
  s.repetition_penalty = defaults.repetition_penalty.value_or(1.0);
  return s;
}

void read_generation(Fields& fields, const ServedModel& model, const ApiOptions& options, Generation& out) {
  out.request.sampling = default_sampling(model.defaults);
  out.request.sampling.seed = random_seed();
  read_sampling(fields, out.request.sampling);
  read_ends(fields, model, out);
  read_stream_options(fields, out);
  std::int64_t min_tokens = 0, priority = 0, prompt_logprobs = -1;
  fields.integer("n", out.n, 1, options.most_choices);
  fields.integer("min_tokens", min_tokens, 0, kMostTokens);
  fields.integer("priority", priority, -1000, 1000);
  fields.integer("prompt_logprobs", prompt_logprobs, -1, 20);
  if (options.reuse_generated) out.request.reuse = infer::CacheReuse::kAny;
  out.request.min_tokens = min_tokens;
  out.request.priority = static_cast<int>(priority);
  out.request.prompt_logprobs = static_cast<int>(prompt_logprobs);
  fields.text("cache_salt", out.request.cache_salt);
  fields.flag("skip_special_tokens", out.skip_special);
  fields.flag("return_token_ids", out.return_token_ids);
  fields.flag("return_tokens_as_token_ids", out.tokens_as_ids);
  read_forced(fields, model, options, out);
  fields.ignore({"model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"});
  out.request.deadline = infer::Request::Clock::now() + std::chrono::seconds(options.request_seconds);
  out.created =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::optional<chat::GuidedOutput> read_guided(Fields& fields, const Json& body) {
  fields.ignore(
      {"response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs"});
  return chat::read_guided(body);
}

void constrain(const Form& form, const ServedModel& model, Generation& out) {
  const bool any = form.guided || !form.tools.tools.empty() || form.budget || !out.forced.empty();
  if (!any) return;
  const auto& tokenizer = model.needs_tokenizer();
  // Only grammars need the compiler, and making it takes a second.
  const grammar::GrammarCompiler* compiler = form.guided || form.tools.may_call() ? &model.grammars() : nullptr;
  out.request.constraint = chat::make_constraint({.tools = form.tools,
                                                  .guided = form.guided,
                                                  .thinking_open = form.thinking_open,
                                                  .budget = form.budget,
                                                  .force_tokens = out.forced},
                                                 *model.format, tokenizer, out.end_tokens, compiler);
}

std::vector<infer::Request> engine_requests(const Generation& generation, const ServedModel& model,
                                            const std::string& prompt_field) {
  std::vector<infer::Request> out;
  for (const Prompt& prompt : generation.prompts)
    for (std::int64_t choice = 0; choice < generation.n; ++choice) {
      infer::Request request = generation.request;
      request.prompt = prompt.ids;
      request.choice = static_cast<std::uint64_t>(choice);
      if (request.constraint) request.constraint = request.constraint->clone();
      if (choice > 0) request.prompt_logprobs = -1;
      try {
        infer::validate(request, model.engine, model.config);
      } catch (const InvalidRequest& e) {
        ApiError error = ApiError::of(e);
        if (error.param == "prompt") error.param = prompt_field;
        throw error;
      }
      out.push_back(std::move(request));
    }
  return out;
}

}  // namespace hadal::serve
