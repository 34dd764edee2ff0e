#include "hadal/serve/http/socket.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace hadal::serve {
namespace {

using boost::beast::tcp_stream;

auto into(error_code& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

class PlainSocket : public Socket {
 public:
  explicit PlainSocket(asio::ip::tcp::socket socket) : stream_(std::move(socket)) {
    error_code ignored;
    stream_.socket().non_blocking(true, ignored);
  }

  asio::awaitable<void> handshake(std::chrono::seconds, error_code&) override { co_return; }
  asio::awaitable<std::size_t> read_some(asio::mutable_buffer to, error_code& error) override {
    stream_.expires_never();
    const std::size_t n = co_await stream_.async_read_some(to, into(error));
    co_return n;
  }
  asio::awaitable<void> write(asio::const_buffer from, std::chrono::seconds limit, error_code& error) override {
    // What the socket takes at once needs no timer and nobody to wake up.
    from += stream_.socket().write_some(from, error);
    if (error == asio::error::would_block || error == asio::error::try_again) error = {};
    if (error || from.size() == 0) co_return;
    stream_.expires_after(limit);
    co_await asio::async_write(stream_, from, into(error));
  }
  asio::awaitable<void> finish() override {
    error_code ignored;
    stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    co_return;
  }
  void close() override { stream_.close(); }

 private:
  tcp_stream stream_;
};

class TlsSocket : public Socket {
 public:
  TlsSocket(asio::ip::tcp::socket socket, asio::ssl::context& context)
      : stream_(tcp_stream(std::move(socket)), context) {}

  asio::awaitable<void> handshake(std::chrono::seconds limit, error_code& error) override {
    stream_.next_layer().expires_after(limit);
    co_await stream_.async_handshake(asio::ssl::stream_base::server, into(error));
    stream_.next_layer().expires_never();
  }
  asio::awaitable<std::size_t> read_some(asio::mutable_buffer to, error_code& error) override {
    stream_.next_layer().expires_never();
    const std::size_t n = co_await stream_.async_read_some(to, into(error));
    co_return n;
  }
  asio::awaitable<void> write(asio::const_buffer from, std::chrono::seconds limit, error_code& error) override {
    stream_.next_layer().expires_after(limit);
    co_await asio::async_write(stream_, from, into(error));
  }
  asio::awaitable<void> finish() override {
    error_code ignored;
    stream_.next_layer().expires_after(std::chrono::seconds(1));  // for the client's own farewell
    co_await stream_.async_shutdown(into(ignored));
    stream_.next_layer().socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  }
  void close() override { stream_.next_layer().close(); }

 private:
  asio::ssl::stream<tcp_stream> stream_;
};

}  // namespace

std::unique_ptr<Socket> plain_socket(asio::ip::tcp::socket socket) {
  return std::make_unique<PlainSocket>(std::move(socket));
}
std::unique_ptr<Socket> tls_socket(asio::ip::tcp::socket socket, asio::ssl::context& context) {
  return std::make_unique<TlsSocket>(std::move(socket), context);
}

}  // namespace hadal::serve
