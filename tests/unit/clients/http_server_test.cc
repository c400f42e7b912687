#include "clients/rest_shim/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "engine/base/mutex.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// A connection as a client has it, byte by byte. Reading blocks until the server has something to say.
class RawClient {
 public:
  explicit RawClient(const std::string& address) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    sockaddr_in server{};
    server.sin_family = AF_INET;
    server.sin_port = htons(static_cast<uint16_t>(port));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&server), sizeof(server)), 0);
  }
  ~RawClient() { Close(); }

  void Send(std::string_view bytes) {
    EXPECT_EQ(send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }

  // All bytes up to and with `end`, or up to the connection's end.
  std::string ReadUntil(std::string_view end) {
    for (;;) {
      if (const size_t found = text_.find(end); found != std::string::npos && !end.empty()) {
        const std::string head = text_.substr(0, found + end.size());
        text_.erase(0, head.size());
        return head;
      }
      char bytes[4096];
      const ssize_t count = recv(socket_, bytes, sizeof(bytes), 0);
      if (count <= 0) return std::exchange(text_, "");
      text_.append(bytes, static_cast<size_t>(count));
    }
  }
  std::string ReadToEnd() { return ReadUntil(""); }

  void Close() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }

 private:
  int socket_;
  std::string text_;
};

// Answers each request with its method, path and body.
void Echo(std::shared_ptr<HttpExchange> exchange) {
  const HttpRequest& request = exchange->request();
  exchange->Send({.content_type = "text/plain", .body = StrCat(request.method, " ", request.path, " ", request.body)});
}

std::unique_ptr<HttpServer> Start(HttpHandler handler, const HttpLimits& limits = HttpLimits()) {
  auto server = HttpServer::Start("127.0.0.1:0", limits, std::move(handler),
                                  [](int status, std::string_view message) { return StrCat(status, " ", message); });
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

TEST(HttpServerTest, AnswersOneRequestAfterTheOther) {
  const auto server = Start(Echo);
  RawClient client(server->address());

  client.Send("POST /a?x=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi");
  const std::string first = client.ReadUntil("POST /a hi");
  client.Send("GET /b HTTP/1.1\r\nhost: x\r\n\r\n");
  const std::string second = client.ReadUntil("GET /b ");

  EXPECT_THAT(first, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(first, HasSubstr("Content-Length: 10\r\n"));
  EXPECT_THAT(second, StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  const auto server = Start(Echo);
  RawClient client(server->address());

  client.Send("GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n"
              "GET /c HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  const std::string answers = client.ReadToEnd();

  EXPECT_LT(answers.find("GET /a "), answers.find("GET /b "));
  EXPECT_LT(answers.find("GET /b "), answers.find("GET /c "));
  EXPECT_NE(answers.find("GET /c "), std::string::npos);
}

TEST(HttpServerTest, ReadsChunkedBodies) {
  const auto server = Start(Echo);
  RawClient client(server->address());

  client.Send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;e=f\r\nde\r\n0\r\n\r\n");

  EXPECT_THAT(client.ReadUntil("POST / abcde"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST(HttpServerTest, ClosesAfterAnAnswerToHttp10) {
  const auto server = Start(Echo);
  RawClient client(server->address());

  client.Send("GET /old HTTP/1.0\r\n\r\n");

  EXPECT_THAT(client.ReadToEnd(), testing::AllOf(StartsWith("HTTP/1.0 200 OK\r\n"), testing::EndsWith("GET /old ")));
}

TEST(HttpServerTest, AsksForABodyThatWaits) {
  const auto server = Start(Echo);
  RawClient client(server->address());

  client.Send("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
  const std::string go_on = client.ReadUntil("\r\n\r\n");
  client.Send("hi");

  EXPECT_EQ(go_on, "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_THAT(client.ReadUntil("POST / hi"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST(HttpServerTest, RefusesWhatIsTooLarge) {
  HttpLimits limits;
  limits.max_header_bytes = 1000;
  limits.max_body_bytes = 10;
  const auto server = Start(Echo, limits);
  RawClient long_header(server->address()), long_body(server->address()), long_chunks(server->address());

  long_header.Send(StrCat("GET / HTTP/1.1\r\nhost: x\r\nx: ", std::string(2000, 'x'), "\r\n\r\n"));
  long_body.Send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n");
  long_chunks.Send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n");

  EXPECT_THAT(long_header.ReadToEnd(), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(long_body.ReadToEnd(), HasSubstr("413 the body is longer than 10 bytes"));
  EXPECT_THAT(long_chunks.ReadToEnd(), StartsWith("HTTP/1.1 413 "));
}

TEST(HttpServerTest, RefusesWhatIsNoHttp) {
  const auto server = Start(Echo);
  RawClient words(server->address()), lengths(server->address()), both(server->address());

  words.Send("hello there\r\n\r\n");
  lengths.Send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab");
  both.Send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");

  EXPECT_THAT(words.ReadToEnd(), HasSubstr(" 400 Bad Request\r\n"));
  EXPECT_THAT(lengths.ReadToEnd(), HasSubstr(" 400 Bad Request\r\n"));
  EXPECT_THAT(both.ReadToEnd(), HasSubstr(" 400 Bad Request\r\n"));
}

TEST(HttpServerTest, GivesUpOnSlowClients) {
  HttpLimits limits;
  limits.header_timeout = limits.body_timeout = absl::Milliseconds(20);
  const auto server = Start(Echo, limits);
  RawClient slow_header(server->address()), slow_body(server->address());

  slow_header.Send("GET / HTTP/1.1\r\nhost:");
  slow_body.Send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab");

  EXPECT_THAT(slow_header.ReadToEnd(), HasSubstr("408 the header did not come in time"));
  EXPECT_THAT(slow_body.ReadToEnd(), HasSubstr("408 the body did not come in time"));
}

TEST(HttpServerTest, ClosesIdleConnections) {
  HttpLimits limits;
  limits.idle_timeout = absl::Milliseconds(20);
  const auto server = Start(Echo, limits);
  RawClient client(server->address());

  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST(HttpServerTest, RefusesBodiesThatTogetherAreTooLarge) {
  HttpLimits limits;
  limits.max_live_body_bytes = 4;
  const auto server = Start(Echo, limits);
  RawClient client(server->address());

  client.Send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nabcde");

  EXPECT_THAT(client.ReadToEnd(), StartsWith("HTTP/1.1 503 "));
}

TEST(HttpServerTest, StreamsPiecesAndKeepsSilentStreamsAlive) {
  HttpLimits limits;
  limits.keepalive_interval = absl::Milliseconds(5);
  std::shared_ptr<HttpExchange> exchange;
  Notification has_come;
  const auto server = Start(
      [&](std::shared_ptr<HttpExchange> came) {
        exchange = std::move(came);
        exchange->StartStream({.content_type = "text/event-stream"}, ": ping\n\n");
        has_come.Notify();
      },
      limits);
  RawClient client(server->address());

  client.Send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  has_come.WaitForNotification();
  const std::string head = client.ReadUntil("8\r\n: ping\n\n\r\n");  // before any piece
  Notification is_written;
  exchange->Write("piece", [&] { is_written.Notify(); });
  is_written.WaitForNotification();
  exchange->EndStream();
  const std::string rest = client.ReadUntil("0\r\n\r\n");
  exchange.reset();

  EXPECT_THAT(head, HasSubstr("Transfer-Encoding: chunked\r\n"));
  EXPECT_THAT(rest, HasSubstr("5\r\npiece\r\n"));
}

TEST(HttpServerTest, TellsWhenTheClientGoes) {
  std::shared_ptr<HttpExchange> exchange;
  Notification has_come, has_gone;
  const auto server = Start([&](std::shared_ptr<HttpExchange> came) {
    exchange = std::move(came);
    exchange->SetOnGone([&] { has_gone.Notify(); });
    has_come.Notify();
  });
  RawClient client(server->address());

  client.Send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  has_come.WaitForNotification();
  client.Close();

  has_gone.WaitForNotification();
  exchange.reset();
}

TEST(HttpServerTest, AnExchangeThatNobodyAnswersClosesItsConnection) {
  const auto server = Start([](std::shared_ptr<HttpExchange>) {});
  RawClient client(server->address());

  client.Send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");

  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST(HttpServerTest, StopLetsRunningRequestsEnd) {
  std::shared_ptr<HttpExchange> exchange;
  Notification has_come;
  const auto server = Start([&](std::shared_ptr<HttpExchange> came) {
    exchange = std::move(came);
    has_come.Notify();
  });
  RawClient client(server->address());
  client.Send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  has_come.WaitForNotification();

  std::exchange(exchange, nullptr)->Send({.body = "done"});
  server->Stop(absl::Seconds(30));

  EXPECT_THAT(client.ReadToEnd(), testing::EndsWith("done"));
}

TEST(HttpServerTest, AnAddressInUseIsAnError) {
  const auto server = Start(Echo);

  const auto second = HttpServer::Start(server->address(), HttpLimits(), Echo, nullptr);

  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server->address()));
}

TEST(HttpServerTest, WhatNoLimitOfTheParserCoversIsBounded) {
  const auto server = Start(Echo);
  const std::string head = "POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
  const std::string many(70'000, 'a');
  for (const std::string& rest : {"0\r\nx: " + many + "\r\n\r\n", "1;" + many}) {
    RawClient client(server->address());
    client.Send(head + rest);
    EXPECT_THAT(client.ReadToEnd(), AnyOf(StartsWith("HTTP/1.1 400"), IsEmpty()));
  }

  RawClient client(server->address());
  client.Send("GET /still HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  EXPECT_THAT(client.ReadToEnd(), HasSubstr("GET /still"));
}

}  // namespace
}  // namespace expertd::rest
