// HttpConnection: one client's connection, from its first byte to its end. Made by HttpServer alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include <boost/asio/ip/tcp.hpp>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "clients/rest_shim/http_server.h"

namespace expertd::rest {

// What all connections share. Outlives them.
struct HttpShared {
  HttpLimits limits;
  HttpHandler handler;
  HttpErrorBody error_body;
  std::atomic<int> num_connections{0};
  std::atomic<int64_t> live_body_bytes{0};
  std::atomic<bool> is_stopping{false};
  absl::Mutex mutex;
  int num_requests ABSL_GUARDED_BY(mutex) = 0;   // being read or answered
  int num_exchanges ABSL_GUARDED_BY(mutex) = 0;  // that somebody holds

  void AddRequests(int count) {
    absl::MutexLock lock(&mutex);
    num_requests += count;
  }
  void AddExchanges(int count) {
    absl::MutexLock lock(&mutex);
    num_exchanges += count;
  }
};

// Thread-safe.
class HttpConnection {
 public:
  virtual ~HttpConnection() = default;

  // Begins to read. Once.
  virtual void Start() = 0;

  // Ends it at once.
  virtual void Close() = 0;

  // Ends it unless a request is under way, which may end first.
  virtual void CloseWhenIdle() = 0;
};

// It keeps itself for as long as it lasts. The socket's executor is a strand.
std::shared_ptr<HttpConnection> MakeHttpConnection(boost::asio::ip::tcp::socket socket, HttpShared& shared);

}  // namespace expertd::rest
