#include "hadal/serve/http/connection.h"

#include <fmt/core.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <random>

#include "hadal/core/log.h"

namespace hadal::serve {
namespace {

constexpr std::size_t kReadSize = std::size_t{16} << 10;

// Named, as GCC 12 destroys some temporaries of a co_await twice.
const std::string kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
const std::string kLate = "the request did not come to its end in time";
const std::string kComment = ": keep-alive\n\n";

std::string new_request_id() {
  thread_local std::mt19937_64 numbers{std::random_device{}()};
  return fmt::format("{:016x}{:08x}", numbers(), numbers() & 0xffffffffu);
}

}  // namespace

Connection::Connection(Executor strand, std::unique_ptr<Socket> socket, std::string peer, const ServerOptions& options,
                       Handler& handler, std::shared_ptr<Wakeups> wakeups)
    : strand_(strand),
      socket_(std::move(socket)),
      wakeups_(std::move(wakeups)),
      options_(options),
      handler_(handler),
      reader_(options.most_header, options.most_body),
      change_(strand) {
  record_.peer = std::move(peer);
}

void Connection::spawn(Task<void> (Connection::*work)()) {
  asio::co_spawn(
      strand_, [self = shared_from_this(), work]() -> Task<void> { co_await (self.get()->*work)(); }, asio::detached);
}

void Connection::start(std::function<void()> on_end) {
  on_end_ = std::move(on_end);
  spawn(&Connection::run);
}

void Connection::start_refusing(int status, std::string message, std::function<void()> on_end) {
  refusal_status_ = status;
  refusal_ = std::move(message);
  on_end_ = std::move(on_end);
  spawn(&Connection::refuse_all);
}

void Connection::drain() {
  asio::post(strand_, [self = shared_from_this()] {
    self->draining_ = true;
    self->wake();
  });
}

void Connection::close() {
  asio::post(strand_, [self = shared_from_this()] {
    self->gone_ = true;
    self->socket_->close();
    self->wake();
  });
}

void Connection::wake() {
  changed_ = true;
  change_.cancel();
}

std::function<void()> Connection::waker() {
  return [weak = weak_from_this(), wakeups = wakeups_] { wakeups->add(weak); };
}

void Connection::wake_soon() {
  asio::dispatch(strand_, [self = shared_from_this()] { self->wake(); });
}

void Wakeups::add(std::weak_ptr<Connection> connection) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(connection));
    if (waiting_.size() > 1) return;
  }
  asio::post(executor_, [self = shared_from_this()] { self->wake_all(); });
}

void Wakeups::wake_all() {
  std::vector<std::weak_ptr<Connection>> now;
  {
    const std::lock_guard lock(mutex_);
    now.swap(waiting_);
  }
  for (const auto& weak : now)
    if (const auto connection = weak.lock()) connection->wake_soon();
}

// Waits for wake(), or until the time.
Connection::Task<void> Connection::changed(Clock::time_point until) {
  if (!changed_) {
    change_.expires_at(until);
    error_code ignored;
    co_await change_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  changed_ = false;
}

Connection::Task<void> Connection::run() {
  error_code error;
  co_await socket_->handshake(options_.header_time, error);
  if (!error) {
    spawn(&Connection::receive);
    try {
      while (co_await next_request()) {
        HttpRequest request = reader_.take();
        request.peer = record_.peer;
        co_await answer(request);
        if (last(request)) break;
      }
    } catch (const std::exception& e) {
      log_message(LogLevel::kError, e.what());
    }
    if (!gone_) co_await socket_->finish();
    if (reader_.fault()) co_await linger();
  }
  over_ = true;
  socket_->close();
  wake();
  on_end_();
}

Connection::Task<void> Connection::refuse_all() {
  error_code error;
  co_await socket_->handshake(options_.header_time, error);
  if (!error) co_await refuse(refusal_status_, refusal_);
  if (!gone_) co_await socket_->finish();
  socket_->close();
  on_end_();
}

// A client that is still sending would lose the refusal if the connection were closed under it.
Connection::Task<void> Connection::linger() {
  const auto end = Clock::now() + std::chrono::seconds(2);
  while (!gone_ && Clock::now() < end) {
    input_.clear();
    co_await changed(end);
  }
}

// Reads all the time, so that a client that goes away is noticed; no more than two requests ahead.
Connection::Task<void> Connection::receive() {
  std::string bytes(kReadSize, '\0');
  const std::size_t most = std::max(options_.most_header, kReadSize) + kReadSize;
  while (!over_ && !gone_) {
    if (input_.size() >= most) {
      // What is there has to be used first; whoever uses it does not wake this, so it looks again now and then.
      asio::steady_timer pause(strand_, std::chrono::milliseconds(20));
      error_code ignored;
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      continue;
    }
    error_code error;
    const std::size_t n = co_await socket_->read_some(asio::buffer(bytes), error);
    if (error)
      gone_ = true;
    else
      input_.append(bytes, 0, n);
    wake();
  }
}

// False if none comes: the connection is to be closed then.
Connection::Task<bool> Connection::next_request() {
  const auto idle_end = Clock::now() + options_.idle_time;
  auto end = idle_end;
  bool begun = false, in_body = false;
  for (;;) {
    reader_.feed(input_);
    if (const auto fault = reader_.fault()) {
      co_await refuse(fault->status, fault->message);
      co_return false;
    }
    if (reader_.complete()) co_return true;
    if (gone_ || (draining_ && !reader_.begun())) co_return false;
    if (reader_.begun() && !begun) {
      begun = true;
      end = Clock::now() + options_.header_time;
    }
    if (reader_.header_complete() && !in_body) {
      in_body = true;
      end = Clock::now() + options_.body_time;
      if (reader_.expects_continue()) co_await send(kContinue);
    }
    if (Clock::now() >= end) {
      if (begun) co_await refuse(408, kLate);
      co_return false;
    }
    co_await changed(end);
  }
}

std::string Connection::header_of(const HttpRequest& request, int status, const Headers& fields) const {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\n", status, status_text(status));
  for (const auto& [name, value] : fields) out += name + ": " + value + "\r\n";
  out += "x-request-id: " + record_.request_id + "\r\n";
  out += last(request) ? "connection: close\r\n\r\n" : "connection: keep-alive\r\n\r\n";
  return out;
}

Connection::Task<void> Connection::send(const std::string& bytes) {
  if (gone_) co_return;
  error_code error;
  co_await socket_->write(asio::buffer(bytes), options_.write_time, error);
  if (error) gone_ = true;
  record_.bytes_out += bytes.size();
}

Connection::Task<void> Connection::send_whole(const HttpRequest& request, const HttpResponse& response) {
  record_.status = response.status;
  Headers fields = response.headers;
  if (response.status != 204) {
    fields.emplace_back("content-type", response.type);
    fields.emplace_back("content-length", std::to_string(response.body.size()));
  }
  std::string bytes = header_of(request, response.status, fields);
  if (request.method != "HEAD") bytes += response.body;
  co_await send(bytes);
}

Connection::Task<void> Connection::refuse(int status, const std::string& message) {
  record_ = {.request_id = new_request_id(), .peer = record_.peer};
  HttpRequest request;
  request.keep_alive = false;
  const HttpResponse response = handler_.refusal(status, message);
  co_await send_whole(request, response);
  handler_.log(record_);
}

Connection::Task<void> Connection::begin_events(const HttpRequest& request) {
  record_.status = 200;
  Headers fields = {{"content-type", "text/event-stream; charset=utf-8"}, {"cache-control", "no-cache"}};
  if (request.chunks) fields.emplace_back("transfer-encoding", "chunked");
  const std::string bytes = header_of(request, 200, fields);
  co_await send(bytes);
}

Connection::Task<void> Connection::send_events(const HttpRequest& request, const std::string& new_events, bool ended) {
  std::string events = new_events;
  if (request.chunks) {
    if (!events.empty()) events = fmt::format("{:x}\r\n{}\r\n", events.size(), events);
    if (ended) events += "0\r\n\r\n";
  }
  if (!events.empty()) co_await send(events);
}

Connection::Task<void> Connection::answer(HttpRequest& request) {
  const auto begin = Clock::now();
  record_ = {.request_id = new_request_id(), .peer = record_.peer, .method = request.method, .path = request.path};
  record_.bytes_in = request.body.size();
  Reply reply = handler_.handle(request, record_.request_id, waker());
  request.body = {};
  if (const auto* response = std::get_if<HttpResponse>(&reply)) {
    co_await send_whole(request, *response);
  } else {
    PendingAnswer& pending = *std::get<std::unique_ptr<PendingAnswer>>(reply);
    co_await answer_over_time(request, pending);
    record_.tally = pending.tally();
  }
  record_.complete = !gone_;
  record_.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  handler_.log(record_);
}

Connection::Task<void> Connection::answer_over_time(const HttpRequest& request, PendingAnswer& pending) {
  bool begun = false;
  while (!gone_) {
    const Output output = pending.advance(begun);
    if (output.whole) {
      co_await send_whole(request, *output.whole);
      co_return;
    }
    if (!output.events.empty() || output.ended) {
      if (!begun) co_await begin_events(request);
      begun = true;
      co_await send_events(request, output.events, output.ended);
      if (output.ended) co_return;
      continue;
    }
    const auto quiet_end = Clock::now() + options_.keep_alive_time;
    co_await changed(quiet_end);
    if (!pending.streams() || Clock::now() < quiet_end) continue;
    if (!begun) co_await begin_events(request);
    begun = true;
    co_await send_events(request, kComment, false);
  }
}

}  // namespace hadal::serve
