// An HTTP/1.1 server (Boost.Asio): connections, their limits and their end. What is answered is the handler's business.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "hadal/serve/http/message.h"

namespace hadal::serve {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8000;                // 0: any that is free
  std::string tls_cert, tls_key;  // PEM files; empty: no TLS
  int threads = 2;
  std::size_t most_connections = 4096;
  std::size_t most_header = std::size_t{16} << 10, most_body = std::size_t{32} << 20;  // bytes

  using Seconds = std::chrono::seconds;
  Seconds header_time{20};      // from a request's first byte to its header's end
  Seconds body_time{120};       // and from there to the body's end
  Seconds idle_time{75};        // between two requests of a connection
  Seconds write_time{60};       // in which a client must take what it is sent
  Seconds keep_alive_time{10};  // between comments of a stream that has nothing to say
  Seconds drain_time{60};       // after the first signal, until what has not ended is given up
};

class Server {
 public:
  // Binds at once; throws Error if that cannot be done. Keeps a reference to the handler.
  Server(const ServerOptions& options, Handler& handler);
  ~Server();

  std::string url() const;  // "http://127.0.0.1:8000"

  enum class End { kDrained, kStopped };
  // Serves until SIGINT or SIGTERM, and then until the last answer has gone out or, at another signal, no longer.
  End run();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal::serve
