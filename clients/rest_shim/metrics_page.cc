#include "clients/rest_shim/metrics_page.h"

#include <pthread.h>

#include <chrono>
#include <thread>
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include "clients/rest_shim/errors.h"
#include "clients/rest_shim/host_port.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr std::chrono::seconds kTimeout{5};
constexpr uint64_t kMaxPageBytes = 16 << 20;

// One page on its way.
class Fetch final : public std::enable_shared_from_this<Fetch> {
 public:
  Fetch(asio::io_context& io, std::string host, std::string port, RestCall call)
      : host_(std::move(host)), port_(std::move(port)), call_(std::move(call)), resolver_(io), stream_(io) {}

  void Start() {
    stream_.expires_after(kTimeout);
    resolver_.async_resolve(host_, port_, [self = shared_from_this()](error_code error, const auto& endpoints) {
      if (error) return self->Fail(error);
      self->stream_.async_connect(endpoints,
                                  [self](error_code error, const tcp::endpoint&) { self->OnConnected(error); });
    });
  }

 private:
  void OnConnected(error_code error) {
    if (error) return Fail(error);
    request_.method(http::verb::get);
    request_.target("/metrics");
    request_.version(11);
    request_.set(http::field::host, host_);
    request_.keep_alive(false);
    parser_.body_limit(kMaxPageBytes);
    http::async_write(stream_, request_, [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->Fail(error);
      http::async_read(self->stream_, self->buffer_, self->parser_,
                       [self](error_code error, size_t) { self->OnPage(error); });
    });
  }

  void OnPage(error_code error) {
    if (error) return Fail(error);
    http::response<http::string_body> page = parser_.release();
    HttpResponse response;
    response.status = static_cast<int>(page.result_int());
    response.content_type = std::string(page[http::field::content_type]);
    response.body = std::move(page.body());
    call_.Send(std::move(response));
  }

  void Fail(error_code error) {
    call_.SendError({.status = 503,
                     .message = StrCat("the metrics at ", host_, ":", port_, " can't be read: ", error.message()),
                     .code = "metrics_unavailable"});
  }

  const std::string host_, port_;
  const RestCall call_;
  tcp::resolver resolver_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  http::request<http::empty_body> request_;
  http::response_parser<http::string_body> parser_;
};

class MetricsPageImpl final : public MetricsPage {
 public:
  explicit MetricsPageImpl(HostPort server)
      : host_(std::move(server.host)), port_(std::move(server.port)),
        work_(asio::make_work_guard(io_)), thread_([this] {
          pthread_setname_np(pthread_self(), "metrics-page");
          io_.run();
        }) {}

  ~MetricsPageImpl() override {
    io_.stop();
    thread_.join();
  }

  void Answer(const RestCall& call) override { std::make_shared<Fetch>(io_, host_, port_, call)->Start(); }

 private:
  const std::string host_, port_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsPage>> MetricsPage::Create(const std::string& address) {
  ASSIGN_OR_RETURN(HostPort server, ParseHostPort("--metrics-target", address));
  return std::make_unique<MetricsPageImpl>(std::move(server));
}

}  // namespace expertd::rest
