#include "hadal/serve/http/request_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace hadal::serve {
namespace {
namespace http = boost::beast::http;

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string text_of(boost::beast::string_view view) {
  return {view.data(), view.size()};
}

}  // namespace

struct RequestReader::State {
  http::request_parser<http::string_body> parser;
  bool begun = false;

  State(std::size_t most_header, std::size_t most_body) {
    parser.eager(true);
    parser.header_limit(static_cast<std::uint32_t>(most_header));
    parser.body_limit(most_body);
  }
};

RequestReader::RequestReader(std::size_t most_header, std::size_t most_body)
    : most_header_(most_header), most_body_(most_body), state_(std::make_unique<State>(most_header, most_body)) {}
RequestReader::~RequestReader() = default;

bool RequestReader::begun() const {
  return state_->begun;
}
bool RequestReader::header_complete() const {
  return state_->parser.is_header_done();
}
bool RequestReader::expects_continue() const {
  return header_complete() && !complete() &&
         boost::beast::iequals(state_->parser.get()[http::field::expect], "100-continue");
}
bool RequestReader::complete() const {
  return state_->parser.is_done();
}

void RequestReader::feed(std::string& bytes) {
  auto& parser = state_->parser;
  // Line breaks between requests are nothing (RFC 9112, 2.2).
  if (!state_->begun) bytes.erase(0, std::min(bytes.find_first_not_of("\r\n"), bytes.size()));
  while (!fault_ && !bytes.empty() && !parser.is_done()) {
    // The parser wants the last chunk ("0", two line breaks) in one piece; no chunked body ends with fewer bytes.
    constexpr std::size_t kLastChunk = 5;
    if (parser.is_header_done() && parser.chunked() && bytes.size() < kLastChunk) break;
    state_->begun = true;
    boost::beast::error_code error;
    const std::size_t used = parser.put(boost::asio::buffer(bytes), error);
    bytes.erase(0, used);
    if (error == http::error::need_more) {
      if (used == 0) break;
    } else if (error == http::error::header_limit) {
      refuse(431, fmt::format("the request's header is larger than {} bytes", most_header_));
    } else if (error == http::error::body_limit) {
      refuse(413, fmt::format("the request's body is larger than {} bytes", most_body_));
    } else if (error) {
      refuse(400, "this is no HTTP request: " + error.message());
    }
  }
  if (!fault_ && !header_complete() && bytes.size() > most_header_)
    refuse(431, fmt::format("the request's header is larger than {} bytes", most_header_));
}

HttpRequest RequestReader::take() {
  auto& message = state_->parser.get();
  HttpRequest out;
  out.method = text_of(message.method_string());
  const std::string target = text_of(message.target());
  const std::size_t question = std::min(target.find('?'), target.size());
  out.path = target.substr(0, question);
  if (question < target.size()) out.query = target.substr(question + 1);
  for (const auto& field : message)
    out.headers.emplace_back(lower_case(text_of(field.name_string())), text_of(field.value()));
  out.body = std::move(message.body());
  out.chunks = message.version() >= 11;
  out.keep_alive = message.keep_alive() && out.chunks;
  state_ = std::make_unique<State>(most_header_, most_body_);
  return out;
}

}  // namespace hadal::serve
