// Requests from the bytes of a connection, by Boost.Beast's parser.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "hadal/serve/http/message.h"

namespace hadal::serve {

class RequestReader {
 public:
  RequestReader(std::size_t most_header, std::size_t most_body);
  ~RequestReader();

  // Takes what it needs from the front of `bytes`. Then one of these holds: failed(), complete(), or more is needed.
  void feed(std::string& bytes);

  bool begun() const;  // some of a request has come
  bool header_complete() const;
  bool expects_continue() const;  // the client waits for "100 Continue" before it sends the body
  bool complete() const;
  // The status and the sentence to refuse with; the connection can't be used further.
  struct Fault {
    int status;
    std::string message;
  };
  const std::optional<Fault>& fault() const { return fault_; }
  // Of a complete request; the next one begins.
  HttpRequest take();

 private:
  struct State;
  void refuse(int status, std::string message) { fault_ = {status, std::move(message)}; }

  std::size_t most_header_, most_body_;
  std::unique_ptr<State> state_;
  std::optional<Fault> fault_;
};

}  // namespace hadal::serve
