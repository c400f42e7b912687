// HttpServer: HTTP/1.1 (and 1.0) for the REST shim, over Boost.Beast: it reads whole requests within limits of size and
// time, hands each to a handler, and writes what the handler answers: at once, or in pieces. It knows nothing of what
// the requests mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace expertd::rest {

struct HttpLimits {
  size_t max_header_bytes = 32 << 10;
  size_t max_body_bytes = 32 << 20;                       // of one request
  int64_t max_live_body_bytes = 128 << 20;                // of all requests that are being read
  int max_connections = 1024;                             // beyond: a connection is closed unread
  absl::Duration header_timeout = absl::Seconds(10);      // from a header's first byte to its last
  absl::Duration body_timeout = absl::Seconds(120);       // from a header's end to the body's
  absl::Duration idle_timeout = absl::Seconds(75);        // between two requests of a connection
  absl::Duration write_timeout = absl::Seconds(30);       // for a client to take one piece of an answer
  absl::Duration keepalive_interval = absl::Seconds(10);  // of silence in a streamed answer
};

struct HttpRequest {
  std::string method;          // "GET"
  std::string path;            // as sent: percent-encoded, without the query
  std::string content_type;    // of the body; may be empty, as the next two
  std::string authorization;
  std::string request_id;      // x-request-id
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string reason;                                        // printable ASCII; empty: the usual one of `status`
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;  // further ones: names and values are printable ASCII
  std::string body;
};

// A request and its answer. Made by the server, kept by whoever answers. Thread-safe; nothing blocks. Either Send once,
// or StartStream, Write one piece after the other, EndStream. What is sent after the client has gone is dropped. An
// exchange that its last owner drops unanswered closes the connection.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  virtual const HttpRequest& request() const = 0;

  // Moves the body out of the request, so that it need not be held for as long as the answer takes.
  virtual std::string TakeBody() = 0;

  // The whole answer.
  virtual void Send(HttpResponse response) = 0;

  // The head of an answer in pieces (`head.body` is empty). While nothing else is written, `keepalive` is, every
  // HttpLimits::keepalive_interval.
  virtual void StartStream(HttpResponse head, std::string keepalive) = 0;

  // A piece. `on_written` is called when the client's side has taken it, which is the time for the next; never when the
  // client has gone.
  virtual void Write(std::string piece, std::function<void()> on_written) = 0;

  // After the last piece was written.
  virtual void EndStream() = 0;

  // `on_gone` is called once when the client goes before its answer is whole; at once when it has gone already.
  virtual void SetOnGone(std::function<void()> on_gone) = 0;
};

// Called on a thread of the server for each request; must not block.
using HttpHandler = std::function<void(std::shared_ptr<HttpExchange>)>;

// What the server answers by itself (400, 408, 413, 431, 503): the body of an error with this status and message.
using HttpErrorBody = std::function<std::string(int status, std::string_view message)>;

// Thread-safe, but for construction and destruction.
class HttpServer {
 public:
  // Listens on HOST:PORT ("[::1]:8000" for IPv6; port 0 takes a free one). Errors: InvalidArgument for an address that
  // is none; Unavailable naming an address that can't be listened on.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address, const HttpLimits& limits,
                                                           HttpHandler handler, HttpErrorBody error_body);

  // Closes all connections.
  virtual ~HttpServer() = default;

  // The address that it listens on, with the port that was taken.
  virtual const std::string& address() const = 0;

  // Takes no further connection; lets the requests that are being read or answered end for up to `timeout`, then closes
  // what is left. Blocks. Once.
  virtual void Stop(absl::Duration timeout) = 0;
};

}  // namespace expertd::rest
