#include "hadal/serve/http/server.h"

#include <fmt/core.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <mutex>
#include <set>
#include <thread>

#include "hadal/core/error.h"
#include "hadal/core/log.h"
#include "hadal/serve/http/connection.h"

namespace hadal::serve {

using asio::ip::tcp;

struct Server::Impl {
  Impl(const ServerOptions& o, Handler& h)
      : options(o), handler(h), io(o.threads), control(asio::make_strand(io)), acceptor(control), patience(control) {}

  void listen();
  void load_certificate();
  asio::awaitable<void> accept();
  void begin(tcp::socket socket);
  void on_signal(asio::signal_set& signals);
  void drain();
  void give_up();
  void remove(const std::shared_ptr<Connection>& connection);

  ServerOptions options;
  Handler& handler;
  asio::io_context io;
  std::shared_ptr<Wakeups> wakeups = std::make_shared<Wakeups>(io.get_executor());
  asio::any_io_executor control;  // a strand: of the acceptor, the signals and what follows from them
  tcp::acceptor acceptor;
  asio::steady_timer patience;
  std::unique_ptr<asio::ssl::context> tls;
  std::mutex mutex;
  std::set<std::shared_ptr<Connection>> connections;
  std::atomic<bool> draining = false, stopped = false;
};

void Server::Impl::load_certificate() {
  if (options.tls_cert.empty() && options.tls_key.empty()) return;
  HADAL_CHECK(!options.tls_cert.empty() && !options.tls_key.empty(),
              "--tls-cert and --tls-key: one without the other is no use; give both");
  tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  tls->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                   asio::ssl::context::no_tlsv1_1);
  error_code error;
  tls->use_certificate_chain_file(options.tls_cert, error);
  HADAL_CHECK(!error, "--tls-cert: {}: is no certificate that can be used: {}", options.tls_cert, error.message());
  tls->use_private_key_file(options.tls_key, asio::ssl::context::pem, error);
  HADAL_CHECK(!error, "--tls-key: {}: is no key of this certificate: {}", options.tls_key, error.message());
}

void Server::Impl::listen() {
  error_code error;
  const asio::ip::address address =
      asio::ip::make_address(options.host == "localhost" ? "127.0.0.1" : options.host, error);
  HADAL_CHECK(!error, "--host: {} is not an address of this machine, such as 127.0.0.1, 0.0.0.0 or ::", options.host);
  const tcp::endpoint endpoint(address, static_cast<std::uint16_t>(options.port));
  acceptor.open(endpoint.protocol());
  acceptor.set_option(tcp::acceptor::reuse_address(true));
  acceptor.bind(endpoint, error);
  HADAL_CHECK(!error, "cannot listen on {} port {}: {}; choose another --port, or 0 for any that is free", options.host,
              options.port, error.message());
  acceptor.listen(asio::socket_base::max_listen_connections, error);
  HADAL_CHECK(!error, "cannot listen on {} port {}: {}", options.host, options.port, error.message());
}

asio::awaitable<void> Server::Impl::accept() {
  while (!draining) {
    error_code error;
    tcp::socket socket =
        co_await acceptor.async_accept(asio::make_strand(io), asio::redirect_error(asio::use_awaitable, error));
    if (!error) {
      begin(std::move(socket));
    } else if (!draining) {
      // Too many open files, for instance: others may close some.
      log_warning("a connection could not be accepted: {}", error.message());
      asio::steady_timer pause(control, std::chrono::milliseconds(100));
      co_await pause.async_wait(asio::use_awaitable);
    }
  }
}

void Server::Impl::begin(tcp::socket socket) {
  error_code error;
  socket.set_option(tcp::no_delay(true), error);
  const tcp::endpoint peer = socket.remote_endpoint(error);
  if (error) return;
  const auto strand = socket.get_executor();
  auto bytes = tls ? tls_socket(std::move(socket), *tls) : plain_socket(std::move(socket));
  auto connection =
      std::make_shared<Connection>(strand, std::move(bytes), peer.address().to_string(), options, handler, wakeups);
  std::size_t others;
  {
    const std::lock_guard lock(mutex);
    others = connections.size();
    connections.insert(connection);
  }
  const auto on_end = [this, weak = std::weak_ptr(connection)] {
    if (const auto ended = weak.lock()) remove(ended);
  };
  if (others >= options.most_connections)
    connection->start_refusing(503, "there are too many connections; try again later", on_end);
  else
    connection->start(on_end);
  if (draining) connection->drain();
}

void Server::Impl::remove(const std::shared_ptr<Connection>& connection) {
  const std::lock_guard lock(mutex);
  connections.erase(connection);
  if (draining && connections.empty()) io.stop();
}

void Server::Impl::on_signal(asio::signal_set& signals) {
  signals.async_wait([this, &signals](const error_code& error, int) {
    if (error) return;
    if (draining) return give_up();
    drain();
    on_signal(signals);
  });
}

void Server::Impl::drain() {
  handler.drain();
  error_code ignored;
  acceptor.close(ignored);
  const std::lock_guard lock(mutex);
  draining = true;
  if (connections.empty()) return io.stop();
  for (const auto& connection : connections) connection->drain();
  patience.expires_after(options.drain_time);
  patience.async_wait([this](const error_code& error) {
    if (!error) give_up();
  });
}

void Server::Impl::give_up() {
  stopped = true;
  io.stop();
}

Server::Server(const ServerOptions& options, Handler& handler) : impl_(std::make_unique<Impl>(options, handler)) {
  impl_->load_certificate();
  impl_->listen();
}
Server::~Server() = default;

std::string Server::url() const {
  const tcp::endpoint at = impl_->acceptor.local_endpoint();
  const std::string host = at.address().is_v6() ? "[" + at.address().to_string() + "]" : at.address().to_string();
  return fmt::format("{}://{}:{}", impl_->tls ? "https" : "http", host, at.port());
}

Server::End Server::run() {
  asio::signal_set signals(impl_->control, SIGINT, SIGTERM);
  impl_->on_signal(signals);
  asio::co_spawn(impl_->control, impl_->accept(), asio::detached);
  std::vector<std::thread> threads;
  for (int i = 1; i < impl_->options.threads; ++i) threads.emplace_back([this] { impl_->io.run(); });
  impl_->io.run();
  for (std::thread& thread : threads) thread.join();
  return impl_->stopped ? End::kStopped : End::kDrained;
}

}  // namespace hadal::serve
