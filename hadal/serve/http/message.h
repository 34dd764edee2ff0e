// HTTP as far as an API needs it. No sockets.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace hadal::serve {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method, path, query;  // of the target; the path still percent-encoded
  Headers headers;                  // names in lower case
  std::string body;
  std::string peer;        // the client's address
  bool keep_alive = true;  // the client can use the connection again
  bool chunks = true;      // it knows chunked bodies (HTTP/1.1)

  const std::string* header(std::string_view lower_case_name) const;
};

struct HttpResponse {
  int status = 200;
  std::string body = {};
  std::string type = "application/json";
  Headers headers = {};
};
std::string_view status_text(int status);

// What there is of an answer since the last time.
struct Output {
  std::optional<HttpResponse> whole = {};  // all of it; nothing came before
  std::string events = {};                 // of a stream of events (text/event-stream)
  bool ended = false;
};

// For the access log; no texts.
struct Tally {
  std::string key = {};  // the name of the API key
  std::int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  std::string finish_reason = {};
};

// An answer that comes over time. Destroyed before its end: nobody wants the rest.
class PendingAnswer {
 public:
  virtual ~PendingAnswer() = default;
  // Called after every wake. `begun`: the response has started, as a stream of events.
  virtual Output advance(bool begun) = 0;
  virtual bool streams() const = 0;
  virtual Tally tally() const = 0;
};

using Reply = std::variant<HttpResponse, std::unique_ptr<PendingAnswer>>;

// How a request ended.
struct AccessRecord {
  std::string request_id, peer, method = {}, path = {};
  int status = 0;
  std::size_t bytes_in = 0, bytes_out = 0;
  double seconds = 0;
  bool complete = false;  // the whole response went out
  Tally tally = {};
};

// Who answers. Called by several threads at a time; does not throw.
class Handler {
 public:
  virtual ~Handler() = default;
  // `wake` may be called by any thread, when a pending answer can advance.
  virtual Reply handle(const HttpRequest& request, const std::string& request_id, std::function<void()> wake) = 0;
  // A request that cannot be read, a connection that is one too many.
  virtual HttpResponse refusal(int status, const std::string& message) = 0;
  virtual void log(const AccessRecord& record) = 0;
  // No new work is wanted.
  virtual void drain() = 0;
};

}  // namespace hadal::serve
