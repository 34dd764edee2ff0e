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
#include "hadal/serve/served_model.h"

namespace hadal::serve {

// A line for the access log.
using LogLine = std::function<void(const std::string&)>;

class Service : public Handler {
 public:
  // Keeps references.
  Service(const ServedModel& model, EngineLoop& loop, Metrics& metrics, ApiOptions api, HostRules hosts, LogLine log);

  Reply handle(const HttpRequest& request, const std::string& request_id, std::function<void()> wake) override;
  HttpResponse refusal(int status, const std::string& message) override;
  void log(const AccessRecord& record) override;
  void drain() override { draining_ = true; }

 private:
  struct Call {
    const HttpRequest& request;
    const std::string& id;
    Wake wake;
  };
  using Action = Reply (Service::*)(const Call&);
  struct Route {
    const char* method;
    bool open;  // needs no key
    Action action;
  };
  static const std::map<std::string, Route, std::less<>>& routes();

  Reply route(const Call& call);
  void warn_unknown(const Fields& fields, const Call& call);

  Reply chat(const Call& call);
  Reply completions(const Call& call);
  Reply models(const Call& call);
  Reply health(const Call& call);
  Reply ready(const Call& call);
  Reply metrics(const Call& call);

  const ServedModel& model_;
  EngineLoop& loop_;
  Metrics& metrics_;
  ApiOptions api_;
  HostRules hosts_;
  LogLine log_;
  std::atomic<bool> draining_ = false;
};

}  // namespace hadal::serve
