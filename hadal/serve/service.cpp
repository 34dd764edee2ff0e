#include "hadal/serve/service.h"

#include "hadal/core/log.h"
#include "hadal/serve/api/chat.h"
#include "hadal/serve/api/json.h"

namespace hadal::serve {

Service::Service(const ServedModel& model, EngineLoop& loop, Metrics& metrics, ApiOptions api, HostRules hosts,
                 LogLine log)
    : model_(model), loop_(loop), metrics_(metrics), api_(api), hosts_(std::move(hosts)), log_(std::move(log)) {}

const std::map<std::string, Service::Route, std::less<>>& Service::routes() {
  static const std::map<std::string, Route, std::less<>> all = {
      {"/v1/chat/completions", {"POST", false, &Service::chat}},
      {"/v1/completions", {"POST", false, &Service::completions}},
      {"/v1/models", {"GET", false, &Service::models}},
      {"/health", {"GET", true, &Service::health}},
      {"/ready", {"GET", true, &Service::ready}},
      {"/metrics", {"GET", false, &Service::metrics}},
  };
  return all;
}

Reply Service::handle(const HttpRequest& request, const std::string& request_id, std::function<void()> wake) {
  Reply reply;
  try {
    reply = route({request, request_id, std::move(wake)});
  } catch (const ApiError& e) {
    reply = e.response();
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

Reply Service::route(const Call& call) {
  const HttpRequest& request = call.request;
  if (const std::string fault = host_fault(request, hosts_); !fault.empty())
    throw ApiError(403, fault, "", "forbidden_origin");
  if (request.method == "OPTIONS" && request.header("origin")) return HttpResponse{.status = 204};
  const auto it = routes().find(request.path);
  if (it == routes().end()) {
    if (request.path.starts_with("/v1/models/")) return models(call);
    throw ApiError(404, fmt::format("there is nothing at {}; /openapi.json lists what there is", request.path), "",
                   "not_found");
  }
  const Route& route = it->second;
  const bool head = request.method == "HEAD" && std::string_view(route.method) == "GET";
  if (request.method != route.method && !head)
    throw ApiError(405, fmt::format("{} takes {}, not {}", request.path, route.method, request.method), "",
                   "method_not_allowed");
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
  Fields fields(body);
  ChatRequest request = read_chat(fields, model_, api_);
  warn_unknown(fields, call);
  request.generation.id = "chatcmpl-" + call.id;
  auto answer = chat_answer(model_, loop_, std::move(request), nullptr);
  answer->begin("messages", call.wake);
  return answer;
}

Reply Service::completions(const Call& call) {
  const Json body = parse_body(call.request.body);
  Fields fields(body);
  Generation generation = read_completion(fields, model_, api_);
  warn_unknown(fields, call);
  generation.id = "cmpl-" + call.id;
  auto answer = completion_answer(model_, loop_, std::move(generation), nullptr);
  answer->begin("prompt", call.wake);
  return answer;
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
