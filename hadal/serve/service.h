// The API: which path does what, who may ask, what is logged. Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "hadal/serve/api/answer.h"
#include "hadal/serve/engine_loop.h"
#include "hadal/serve/http/host_check.h"
#include "hadal/serve/idle_work.h"
#include "hadal/serve/keys.h"
#include "hadal/serve/quotas.h"
#include "hadal/serve/served_model.h"

namespace hadal::serve {

// A line for the access log.
using LogLine = std::function<void(const std::string&)>;

class Service : public Handler {
 public:
  // Keeps references. keys: nullptr: nobody needs one. idle: nullptr: nothing is computed ahead.
  Service(const ServedModel& model, EngineLoop& loop, Metrics& metrics, const KeyStore* keys, IdleWork* idle,
          ApiOptions api, HostRules hosts, LogLine log);

  Reply handle(const HttpRequest& request, const std::string& request_id, std::function<void()> wake) override;
  HttpResponse refusal(int status, const std::string& message) override;
  void log(const AccessRecord& record) override;
  void drain() override { draining_ = true; }

 private:
  struct Call {
    const HttpRequest& request;
    const std::string& id;
    Wake wake;
    std::optional<Key> key = {};
  };
  using Action = Reply (Service::*)(const Call&);
  struct Route {
    const char* method;
    Action action;
    bool open = false;  // needs no key
  };
  static const std::map<std::string, Route, std::less<>>& routes();

  Reply route(Call& call);
  std::optional<Key> key_of(const HttpRequest& request) const;
  std::unique_ptr<Account> account_of(const Call& call);
  Reply json_reply(const Call& call,
                   nlohmann::ordered_json (*make)(Fields&, const nlohmann::ordered_json&, const ServedModel&));
  void warn_unknown(const Fields& fields, const Call& call);

  Reply chat(const Call& call);
  Reply completions(const Call& call);
  Reply embeddings(const Call& call);
  Reply models(const Call& call);
  Reply tokenize(const Call& call);
  Reply detokenize(const Call& call);
  Reply tokenizer_info(const Call& call);
  Reply apply_template(const Call& call);
  Reply openapi(const Call& call);
  Reply health(const Call& call);
  Reply ready(const Call& call);
  Reply metrics(const Call& call);

  const ServedModel& model_;
  EngineLoop& loop_;
  Metrics& metrics_;
  const KeyStore* keys_;
  IdleWork* idle_;
  Quotas quotas_;
  ApiOptions api_;
  HostRules hosts_;
  LogLine log_;
  std::atomic<bool> draining_ = false;
};

}  // namespace hadal::serve
