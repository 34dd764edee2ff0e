// A connection's bytes, with TLS or without. Included by http/*.cpp alone: Asio's headers cost seconds.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <memory>

namespace hadal::serve {

namespace asio = boost::asio;
using boost::system::error_code;

// Of one strand. At most one read and one write at a time.
class Socket {
 public:
  virtual ~Socket() = default;
  virtual asio::awaitable<void> handshake(std::chrono::seconds limit, error_code& error) = 0;
  virtual asio::awaitable<std::size_t> read_some(asio::mutable_buffer to, error_code& error) = 0;
  // All of it, within the time.
  virtual asio::awaitable<void> write(asio::const_buffer from, std::chrono::seconds limit, error_code& error) = 0;
  // Says that nothing more comes.
  virtual asio::awaitable<void> finish() = 0;
  // Reads and writes that wait end with an error.
  virtual void close() = 0;
};

std::unique_ptr<Socket> plain_socket(asio::ip::tcp::socket socket);
std::unique_ptr<Socket> tls_socket(asio::ip::tcp::socket socket, asio::ssl::context& context);

}  // namespace hadal::serve
