#include "hadal/serve/http/request_reader.h"

#include <gmock/gmock.h>

namespace hadal::serve {
namespace {

const std::string kPost =
    "POST /v1/completions?a=b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nX-Two: 1\r\nx-two: 2\r\n\r\nhello";
const std::string kChunked =
    "POST /x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n";

TEST(RequestReader, PiecesOfAnySizeAreTheSameRequest) {
  for (const std::string& text : {kPost, kChunked})
    for (std::size_t size = 1; size <= text.size(); ++size) {
      RequestReader reader(1000, 1000);
      std::string input;
      for (std::size_t at = 0; at < text.size(); at += size) {
        input += text.substr(at, size);
        EXPECT_FALSE(reader.complete());
        reader.feed(input);
      }
      ASSERT_FALSE(reader.fault()) << reader.fault()->message;
      ASSERT_TRUE(reader.complete());
      const HttpRequest request = reader.take();
      EXPECT_EQ(request.body, "hello");
      EXPECT_EQ(request.method, "POST");
      EXPECT_TRUE(request.keep_alive);
      EXPECT_EQ(input, "");
    }
}

TEST(RequestReader, AChunkedBodyOfNothingInPiecesOfAnySize) {
  const std::string text = "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
  for (std::size_t size = 1; size <= text.size(); ++size) {
    RequestReader reader(1000, 1000);
    std::string input;
    for (std::size_t at = 0; at < text.size(); at += size) {
      input += text.substr(at, size);
      reader.feed(input);
      reader.feed(input);  // asking again is no harm
    }
    ASSERT_TRUE(reader.complete()) << size;
    EXPECT_EQ(reader.take().body, "");
    EXPECT_EQ(input, "");
  }
}

TEST(RequestReader, TargetAndHeaders) {
  RequestReader reader(1000, 1000);
  std::string input = "\r\n" + kPost + kChunked;
  reader.feed(input);
  const HttpRequest request = reader.take();
  EXPECT_EQ(request.path, "/v1/completions");
  EXPECT_EQ(request.query, "a=b");
  EXPECT_EQ(*request.header("x-two"), "1");
  EXPECT_EQ(input, kChunked);  // is left for the next
  reader.feed(input);
  EXPECT_TRUE(reader.complete());
}

TEST(RequestReader, LimitsAndFaults) {
  const auto status = [](std::string input) {
    RequestReader reader(200, 10);
    reader.feed(input);
    return reader.fault() ? reader.fault()->status : 0;
  };
  EXPECT_EQ(status(kPost), 0);
  EXPECT_EQ(status("POST / HTTP/1.1\r\ncontent-length: 11\r\n\r\nhello world"), 413);
  EXPECT_EQ(status("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"), 413);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nx: " + std::string(300, 'x') + "\r\n\r\n"), 431);
  EXPECT_EQ(status("GET /" + std::string(300, 'x')), 431);
  EXPECT_EQ(status("nonsense\r\n\r\n"), 400);
  // Two readings of one request are how requests are smuggled.
  EXPECT_EQ(status("POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status("POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"), 400);
}

TEST(RequestReader, ClientsThatWaitForContinue) {
  RequestReader reader(1000, 1000);
  std::string input = "POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
  reader.feed(input);
  EXPECT_TRUE(reader.expects_continue());
  input = "hi";
  reader.feed(input);
  EXPECT_FALSE(reader.expects_continue());
  EXPECT_EQ(reader.take().body, "hi");
}

TEST(RequestReader, OldClientsCannotUseTheConnectionAgain) {
  RequestReader reader(1000, 1000);
  std::string input = "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
  reader.feed(input);
  const HttpRequest request = reader.take();
  EXPECT_FALSE(request.keep_alive);
  EXPECT_FALSE(request.chunks);
}

}  // namespace
}  // namespace hadal::serve
