// One client's connection: reads requests, writes what the handler answers, and tells it when the client has gone.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>

#include "hadal/serve/http/request_reader.h"
#include "hadal/serve/http/server.h"
#include "hadal/serve/http/socket.h"
#include "hadal/serve/http/wakeups.h"

namespace hadal::serve {

// All its work is done on one strand.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Executor = asio::any_io_executor;

  Connection(Executor strand, std::unique_ptr<Socket> socket, std::string peer, const ServerOptions& options,
             Handler& handler, std::shared_ptr<Wakeups> wakeups);

  // Serves until either side ends it; the connection keeps itself alive meanwhile.
  void start(std::function<void()> on_end);
  // From any thread. Ends after the answer that is under way; at once if there is none.
  void drain();
  void close();
  void wake_soon();  // something has come for it
  // Refuses to serve at all.
  void start_refusing(int status, std::string message, std::function<void()> on_end);

 private:
  using Clock = std::chrono::steady_clock;
  template <class T>
  using Task = asio::awaitable<T>;

  void spawn(Task<void> (Connection::*work)());
  Task<void> run();
  Task<void> refuse_all();
  Task<void> linger();
  Task<void> receive();
  Task<void> changed(Clock::time_point until);
  Task<bool> next_request();
  Task<void> answer(HttpRequest& request);
  Task<void> answer_over_time(const HttpRequest& request, PendingAnswer& pending);
  Task<void> send_whole(const HttpRequest& request, const HttpResponse& response);
  Task<void> begin_events(const HttpRequest& request);
  Task<void> send_events(const HttpRequest& request, const std::string& new_events, bool ended);
  Task<void> refuse(int status, const std::string& message);
  Task<void> send(const std::string& bytes);
  std::string header_of(const HttpRequest& request, int status, const Headers& fields) const;
  void wake();
  std::function<void()> waker();
  bool last(const HttpRequest& request) const { return draining_ || !request.keep_alive; }

  Executor strand_;
  std::unique_ptr<Socket> socket_;
  std::shared_ptr<Wakeups> wakeups_;
  const ServerOptions& options_;
  Handler& handler_;
  RequestReader reader_;
  asio::steady_timer change_;  // never ends by itself: its cancellation is what says that something has changed
  bool changed_ = false;
  std::string input_;
  bool gone_ = false;  // the client: nothing more comes from it, nor is wanted
  bool draining_ = false, over_ = false;
  AccessRecord record_;
  std::function<void()> on_end_;
  int refusal_status_ = 0;
  std::string refusal_;
};

}  // namespace hadal::serve
