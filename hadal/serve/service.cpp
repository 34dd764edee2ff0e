#include "hadal/serve/service.h"

#include "hadal/chat/bad_parameter.h"
#include "hadal/core/log.h"
#include "hadal/serve/api/chat.h"
#include "hadal/serve/api/embeddings.h"
#include "hadal/serve/api/json.h"
#include "hadal/serve/api/openapi.h"
#include "hadal/serve/api/tokens.h"

namespace hadal::serve {

namespace {

// Whoever asks without a key, where none is needed, shares one cache and no limits.
class Anonymous : public Account {
 public:
  explicit Anonymous(Metrics& metrics) : metrics_(metrics) {}
  void enter(infer::Request&) const override {}
  void charge(TokenUse use) override { metrics_.used(name_, use); }
  const std::string& name() const override { return name_; }

 private:
  Metrics& metrics_;
  std::string name_;
};

class KeyAccount : public Account {
 public:
  KeyAccount(Key key, Quotas& quotas, Metrics& metrics) : key_(std::move(key)), quotas_(quotas), metrics_(metrics) {
    quotas_.begin(key_);
  }
  ~KeyAccount() override { quotas_.end(key_, used_); }
  void enter(infer::Request& request) const override {
    request.tenant = std::to_string(key_.id);
    // The time to the first token would tell another key what prompts there have been.
    // With the time when the key was made: pages on disk outlive a file of keys, numbers are given again.
    request.cache_salt = fmt::format("{}@{}/{}", key_.id, key_.created, request.cache_salt);
  }
  void charge(TokenUse use) override {
    used_ = use;
    metrics_.used(key_.name, use);
  }
  const std::string& name() const override { return key_.name; }

 private:
  Key key_;
  Quotas& quotas_;
  Metrics& metrics_;
  TokenUse used_;
};

}  // namespace

Service::Service(const ServedModel& model, EngineLoop& loop, Metrics& metrics, const KeyStore* keys, IdleWork* idle,
                 ApiOptions api, HostRules hosts, LogLine log)
    : model_(model),
      loop_(loop),
      metrics_(metrics),
      keys_(keys),
      idle_(idle),
      api_(api),
      hosts_(std::move(hosts)),
      log_(std::move(log)) {}

const std::map<std::string, Service::Route, std::less<>>& Service::routes() {
  static const std::map<std::string, Route, std::less<>> all = {
      {"/v1/chat/completions", {"POST", &Service::chat}},
      {"/v1/completions", {"POST", &Service::completions}},
      {"/v1/embeddings", {"POST", &Service::embeddings}},
      {"/v1/models", {"GET", &Service::models}},
      {"/tokenize", {"POST", &Service::tokenize}},
      {"/detokenize", {"POST", &Service::detokenize}},
      {"/tokenizer_info", {"GET", &Service::tokenizer_info}},
      {"/apply-template", {"POST", &Service::apply_template}},
      {"/health", {"GET", &Service::health, true}},
      {"/ready", {"GET", &Service::ready, true}},
      {"/metrics", {"GET", &Service::metrics}},
      {"/openapi.json", {"GET", &Service::openapi, true}},
  };
  return all;
}

std::optional<Key> Service::key_of(const HttpRequest& request) const {
  const std::string* header = request.header("authorization");
  if (!header) throw ApiError(401, "an API key is needed: Authorization: Bearer KEY", "", "invalid_api_key");
  std::string_view given = *header;
  constexpr std::string_view kScheme = "bearer ";
  const bool bearer = given.size() > kScheme.size() && std::equal(kScheme.begin(), kScheme.end(), given.begin(),
                                                                  [](char a, char b) { return a == (b | 0x20); });
  if (bearer) given.remove_prefix(kScheme.size());
  auto key = bearer ? keys_->find(given) : std::nullopt;
  if (!key) throw ApiError(401, "this API key is not known here, or was revoked", "", "invalid_api_key");
  return key;
}

std::unique_ptr<Account> Service::account_of(const Call& call) {
  if (call.key) return std::make_unique<KeyAccount>(*call.key, quotas_, metrics_);
  return std::make_unique<Anonymous>(metrics_);
}

Reply Service::handle(const HttpRequest& request, const std::string& request_id, std::function<void()> wake) {
  Reply reply;
  try {
    Call call{request, request_id, std::move(wake)};
    reply = route(call);
  } catch (const ApiError& e) {
    reply = e.response();
  } catch (const chat::BadParameter& e) {
    reply = ApiError::invalid(e.param, e.what()).response();
  } catch (const InvalidRequest& e) {
    reply = ApiError::of(e).response();
  } catch (const std::exception& e) {
    log_message(LogLevel::kError, e.what());
    reply = ApiError(500, e.what()).response();
  }
  if (auto* response = std::get_if<HttpResponse>(&reply))
    for (auto& header : cors_headers(request, hosts_)) response->headers.push_back(std::move(header));
  return reply;
}

Reply Service::route(Call& call) {
  const HttpRequest& request = call.request;
  if (const std::string fault = host_fault(request, hosts_); !fault.empty())
    throw ApiError(403, fault, "", "forbidden_origin");
  if (request.method == "OPTIONS" && request.header("origin")) return HttpResponse{.status = 204};
  const auto it = routes().find(request.path);
  if (it == routes().end()) {
    if (request.path.starts_with("/v1/models/")) {
      if (keys_) call.key = key_of(request);
      return models(call);
    }
    throw ApiError(404, fmt::format("there is nothing at {}; /openapi.json lists what there is", request.path), "",
                   "not_found");
  }
  const Route& route = it->second;
  const bool head = request.method == "HEAD" && std::string_view(route.method) == "GET";
  if (request.method != route.method && !head)
    throw ApiError(405, fmt::format("{} takes {}, not {}", request.path, route.method, request.method), "",
                   "method_not_allowed");
  if (keys_ && !route.open) call.key = key_of(request);
  return (this->*route.action)(call);
}

HttpResponse Service::refusal(int status, const std::string& message) {
  return ApiError(status, message, "", "", status == 503 ? 1 : 0).response();
}

void Service::warn_unknown(const Fields& fields, const Call& call) {
  for (const std::string& name : fields.unknown())
    log_warning("{}: the field \"{}\" is not known here and has no effect (request {})", call.request.path, shown(name),
                call.id);
}

void Service::log(const AccessRecord& r) {
  const bool known = routes().contains(r.path) || r.path.starts_with("/v1/models/");
  metrics_.request(known ? r.path : "other", r.status);
  if (!log_) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  Json line = {{"time", std::chrono::duration<double>(now).count()}, {"request", r.request_id}, {"peer", r.peer}};
  line["method"] = r.method;
  line["path"] = known ? r.path : r.path.substr(0, 100);
  line["status"] = r.status;
  line["seconds"] = std::round(r.seconds * 1e6) / 1e6;
  line["bytes_in"] = r.bytes_in;
  line["bytes_out"] = r.bytes_out;
  if (!r.complete) line["client"] = "gone";
  if (!r.tally.key.empty()) line["key"] = r.tally.key;
  if (r.tally.prompt_tokens > 0) {
    line["prompt_tokens"] = r.tally.prompt_tokens;
    line["cached_tokens"] = r.tally.cached_tokens;
    line["completion_tokens"] = r.tally.completion_tokens;
    line["finish_reason"] = r.tally.finish_reason;
  }
  log_(text_of(line));
}

Reply Service::chat(const Call& call) {
  const Json body = parse_body(call.request.body);
  auto account = account_of(call);
  Fields fields(body);
  ChatRequest request = read_chat(fields, body, model_, api_);
  warn_unknown(fields, call);
  request.generation.id = "chatcmpl-" + call.id;
  request.bytes = call.request.body.size();
  auto answer = chat_answer(model_, loop_, std::move(request), std::move(account), idle_);
  answer->begin("messages", call.wake);
  return answer;
}

Reply Service::completions(const Call& call) {
  const Json body = parse_body(call.request.body);
  auto account = account_of(call);
  Fields fields(body);
  Generation generation = read_completion(fields, body, model_, api_);
  warn_unknown(fields, call);
  generation.id = "cmpl-" + call.id;
  auto answer = completion_answer(model_, loop_, std::move(generation), std::move(account));
  answer->begin("prompt", call.wake);
  return answer;
}

Reply Service::embeddings(const Call& call) {
  const Json body = parse_body(call.request.body);
  auto account = account_of(call);
  Fields fields(body);
  EmbeddingRequest request = read_embeddings(fields, model_, api_);
  warn_unknown(fields, call);
  auto answer = std::make_unique<EmbeddingAnswer>(model_, loop_, std::move(request), std::move(account));
  answer->begin(call.wake);
  return answer;
}

Reply Service::json_reply(const Call& call, Json (*make)(Fields&, const Json&, const ServedModel&)) {
  const Json body = parse_body(call.request.body);
  Fields fields(body);
  const Json out = make(fields, body, model_);
  warn_unknown(fields, call);
  return HttpResponse{.body = text_of(out)};
}

Reply Service::tokenize(const Call& call) {
  return json_reply(call, &serve::tokenize);
}
Reply Service::detokenize(const Call& call) {
  return json_reply(call, &serve::detokenize);
}
Reply Service::apply_template(const Call& call) {
  return json_reply(call, &serve::apply_template);
}
Reply Service::tokenizer_info(const Call&) {
  return HttpResponse{.body = text_of(serve::tokenizer_info(model_))};
}
Reply Service::openapi(const Call&) {
  return HttpResponse{.body = openapi_json("0.1.0")};
}

Reply Service::models(const Call& call) {
  const auto model = [&](const std::string& name) {
    return Json{{"id", name},
                {"object", "model"},
                {"created", model_.created},
                {"owned_by", "hadal"},
                {"max_model_len", model_.engine.context}};
  };
  constexpr std::string_view kAll = "/v1/models";
  if (call.request.path != kAll) {
    const std::string name = call.request.path.substr(kAll.size() + 1);
    for (const std::string& known : model_.names)
      if (known == name) return HttpResponse{.body = text_of(model(known))};
    throw ApiError(404, fmt::format("there is no model {} here", name), "model", "model_not_found");
  }
  Json list = Json::array();
  for (const std::string& name : model_.names) list.push_back(model(name));
  return HttpResponse{.body = text_of({{"object", "list"}, {"data", list}})};
}

Reply Service::health(const Call&) {
  if (loop_.stopping()) return ApiError(503, "the engine has stopped").response();
  return HttpResponse{.body = R"({"status": "ok"})"};
}

Reply Service::ready(const Call&) {
  if (draining_ || loop_.stopping()) return ApiError(503, "the server is stopping").response();
  return HttpResponse{.body = R"({"status": "ready"})"};
}

Reply Service::metrics(const Call&) {
  return HttpResponse{.body = metrics_.text(), .type = "text/plain; version=0.0.4; charset=utf-8"};
}

}  // namespace hadal::serve
