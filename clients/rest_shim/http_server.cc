#include "clients/rest_shim/http_server.h"

#include <pthread.h>

#include <chrono>
#include <exception>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "clients/rest_shim/host_port.h"
#include "clients/rest_shim/http_connection.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr int kNumThreads = 2;  // they move bytes and JSON; a long text must not hold up all others

// Accepts connections and owns the threads.
class BeastServer final : public HttpServer {
 public:
  BeastServer(const HttpLimits& limits, HttpHandler handler, HttpErrorBody error_body)
      : acceptor_(asio::make_strand(io_)), work_(asio::make_work_guard(io_)) {
    shared_.limits = limits;
    shared_.handler = std::move(handler);
    shared_.error_body = std::move(error_body);
  }

  ~BeastServer() override {
    Stop(absl::ZeroDuration());
  }

  // Errors: as HttpServer::Start has them.
  absl::Status Listen(const std::string& address) {
    ASSIGN_OR_RETURN(const HostPort wanted, ParseHostPort("the address", address));
    error_code error;
    const auto found = tcp::resolver(io_).resolve(wanted.host, wanted.port, error);
    if (error || found.empty()) {
      return absl::UnavailableError(StrCat("can't listen on ", address, ": ", error.message()));
    }
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return absl::UnavailableError(StrCat("can't listen on ", address, ": ", error.message()));
    address_ = StrCat(address.substr(0, address.rfind(':') + 1), acceptor_.local_endpoint(error).port());
    for (int i = 0; i < kNumThreads; ++i) {
      threads_.emplace_back([this] {
        pthread_setname_np(pthread_self(), "http");
        RunHandlers();
      });
    }
    asio::post(acceptor_.get_executor(), [this] { Accept(); });
    return absl::OkStatus();
  }

  const std::string& address() const override { return address_; }

  void Stop(absl::Duration timeout) override {
    if (threads_.empty()) return;
    shared_.is_stopping = true;
    asio::post(acceptor_.get_executor(), [this] {
      error_code ignored;
      acceptor_.close(ignored);
      pause_.cancel();
    });
    ForEachConnection([](HttpConnection& connection) { connection.CloseWhenIdle(); });
    AwaitNone(&HttpShared::num_requests, timeout);
    ForEachConnection([](HttpConnection& connection) { connection.Close(); });
    // Those who answer have been told by their on_gone, and let go of their exchanges soon.
    AwaitNone(&HttpShared::num_exchanges, absl::InfiniteDuration());
    work_.reset();  // nothing is left to do, so that the threads come to their end
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  // One request that makes a library throw must not end the process.
  void RunHandlers() {
    for (;;) {
      try {
        io_.run();
        return;
      } catch (const std::exception& error) {
        LogError("http_handler_failed", {{"error", error.what()}});
      }
    }
  }

  void Accept() {
    acceptor_.async_accept(asio::make_strand(io_), [this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || !acceptor_.is_open()) return;
      if (error) return AcceptLater();
      Admit(std::move(socket));
      Accept();
    });
  }

  // Out of descriptors, most likely: to ask again at once would keep a processor busy.
  void AcceptLater() {
    pause_.expires_after(std::chrono::milliseconds(100));
    pause_.async_wait([this](error_code error) {
      if (!error) Accept();
    });
  }

  void Admit(tcp::socket socket) {
    absl::MutexLock lock(&mutex_);
    if (shared_.is_stopping || shared_.num_connections >= shared_.limits.max_connections) return;
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    const std::shared_ptr<HttpConnection> connection = MakeHttpConnection(std::move(socket), shared_);
    connection->Start();
    std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
    connections_.push_back(connection);
  }

  // Waits for up to `timeout` until `count` is 0.
  void AwaitNone(int HttpShared::*count, absl::Duration timeout) {
    const auto is_none = [&] { return shared_.*count == 0; };
    absl::MutexLock lock(&shared_.mutex);
    shared_.mutex.AwaitWithTimeout(absl::Condition(&is_none), timeout);
  }

  template <typename Step>
  void ForEachConnection(Step step) {
    absl::MutexLock lock(&mutex_);
    for (const std::weak_ptr<HttpConnection>& weak : connections_) {
      if (const std::shared_ptr<HttpConnection> connection = weak.lock()) step(*connection);
    }
  }

  HttpShared shared_;
  asio::io_context io_{kNumThreads};  // goes before what its handlers use
  tcp::acceptor acceptor_;
  asio::steady_timer pause_{acceptor_.get_executor()};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::vector<std::thread> threads_;
  std::string address_;
  absl::Mutex mutex_;
  std::list<std::weak_ptr<HttpConnection>> connections_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address, const HttpLimits& limits,
                                                              HttpHandler handler, HttpErrorBody error_body) {
  auto server = std::make_unique<BeastServer>(limits, std::move(handler), std::move(error_body));
  RETURN_IF_ERROR(server->Listen(address));
  return server;
}

}  // namespace expertd::rest
