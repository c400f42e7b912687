#include "clients/rest_shim/event_streams.h"

#include <pthread.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string_view>
#include <thread>
#include <utility>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include "absl/strings/ascii.h"
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

constexpr size_t kMaxErrorBytes = 64 << 10;
constexpr std::string_view kDone = "[DONE]";

absl::StatusCode CodeOf(int http_status) {
  switch (http_status) {
    case 401: return absl::StatusCode::kUnauthenticated;
    case 403: return absl::StatusCode::kPermissionDenied;
    case 404: return absl::StatusCode::kNotFound;
    case 413:
    case 429: return absl::StatusCode::kResourceExhausted;
    case 499: return absl::StatusCode::kCancelled;
    case 503: return absl::StatusCode::kUnavailable;
    case 504: return absl::StatusCode::kDeadlineExceeded;
    default: return http_status < 500 ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kInternal;
  }
}

std::string StringOf(const Json* json, std::string_view name) {
  const Json* member = json == nullptr ? nullptr : JsonFind(*json, name);
  return member != nullptr && member->is_string() ? member->get<std::string>() : "";
}

// One request on its way. Everything happens on the streams' thread.
class Stream final : public std::enable_shared_from_this<Stream> {
 public:
  Stream(asio::io_context& io, http::request<http::string_body> request, EventStreams::OnEvent on_event,
         EventStreams::OnEnd on_end)
      : resolver_(io), stream_(io), request_(std::move(request)), on_event_(std::move(on_event)),
        on_end_(std::move(on_end)) {
    parser_.body_limit(std::numeric_limits<uint64_t>::max());
  }

  void Start(const std::string& host, const std::string& port, absl::Duration timeout) {
    if (timeout != absl::InfiniteDuration()) stream_.expires_after(absl::ToChronoMilliseconds(timeout));
    resolver_.async_resolve(host, port, [self = shared_from_this()](error_code error, const auto& endpoints) {
      if (error) return self->Fail(error);
      self->stream_.async_connect(endpoints,
                                  [self](error_code error, const tcp::endpoint&) { self->OnConnected(error); });
    });
  }

 private:
  void OnConnected(error_code error) {
    if (error) return Fail(error);
    error_code ignored;
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    http::async_write(stream_, request_, [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->Fail(error);
      http::async_read_header(self->stream_, self->buffer_, self->parser_,
                              [self](error_code error, size_t) { error ? self->Fail(error) : self->ReadBody(); });
    });
  }

  void ReadBody() {
    if (parser_.is_done()) return OnWhole();
    parser_.get().body().data = piece_.data();
    parser_.get().body().size = piece_.size();
    parser_.get().body().more = true;
    http::async_read_some(stream_, buffer_, parser_, [self = shared_from_this()](error_code error, size_t) {
      if (error && error != http::error::need_buffer) return self->Fail(error);
      self->text_.append(self->piece_.data(), self->piece_.size() - self->parser_.get().body().size);
      if (self->parser_.get().result_int() == 200) {
        self->TakeEvents();
      } else if (self->text_.size() > kMaxErrorBytes) {
        self->text_.resize(kMaxErrorBytes);
      }
      if (self->on_end_) self->ReadBody();
    });
  }

  void TakeEvents() {
    constexpr std::string_view kData = "data: ", kEnd = "\n\n";
    size_t begin = 0;
    for (size_t end; (end = text_.find(kEnd, begin)) != std::string::npos; begin = end + kEnd.size()) {
      const std::string_view event = std::string_view(text_).substr(begin, end - begin);
      if (!event.starts_with(kData)) continue;  // a comment: the server is still there
      const std::string_view data = event.substr(kData.size());
      if (data == kDone) {
        is_done_ = true;
        continue;
      }
      const absl::StatusOr<Json> json = ParseJson(data);
      if (!json.ok()) return End(absl::InternalError(StrCat("an event is not JSON: ", data.substr(0, 100))), "");
      if (const Json* error = JsonFind(*json, "error"); error != nullptr) return EndWith(*error, 500);
      on_event_(*json);
    }
    text_.erase(0, begin);
  }

  void OnWhole() {
    const int status = static_cast<int>(parser_.get().result_int());
    if (status != 200) {
      const absl::StatusOr<Json> json = ParseJson(text_);
      const Json* error = json.ok() ? JsonFind(*json, "error") : nullptr;
      if (error != nullptr) return EndWith(*error, status);
      return End(absl::Status(CodeOf(status), StrCat("HTTP ", status)), "");
    }
    End(is_done_ ? absl::OkStatus() : absl::InternalError("the stream has no end"), "");
  }

  void EndWith(const Json& error, int status) {
    End(absl::Status(CodeOf(status), ToAbslView(StringOf(&error, "message"))),
        absl::AsciiStrToUpper(StringOf(&error, "code")));
  }

  void Fail(error_code error) {
    const bool is_late = error == beast::error::timeout;
    End(is_late ? absl::DeadlineExceededError("no answer in time") : absl::UnavailableError(error.message()), "");
  }

  void End(absl::Status status, std::string reason) {
    stream_.close();
    if (on_end_) std::exchange(on_end_, nullptr)(std::move(status), std::move(reason));
  }

  tcp::resolver resolver_;
  beast::tcp_stream stream_;
  const http::request<http::string_body> request_;
  const EventStreams::OnEvent on_event_;
  EventStreams::OnEnd on_end_;
  beast::flat_buffer buffer_;
  http::response_parser<http::buffer_body> parser_;
  std::array<char, 16 << 10> piece_;
  std::string text_;
  bool is_done_ = false;
};

class EventStreamsImpl final : public EventStreams {
 public:
  EventStreamsImpl(std::string host, std::string port, std::string authorization)
      : host_(std::move(host)), port_(std::move(port)), authorization_(std::move(authorization)),
        work_(asio::make_work_guard(io_)), thread_([this] {
          pthread_setname_np(pthread_self(), "event-streams");
          io_.run();
        }) {}

  ~EventStreamsImpl() override {
    io_.stop();
    thread_.join();
  }

  void Post(const std::string& path, std::string body, absl::Duration timeout, OnEvent on_event,
            OnEnd on_end) override {
    http::request<http::string_body> request(http::verb::post, path, 11);
    request.set(http::field::host, host_);
    request.set(http::field::content_type, "application/json");
    if (!authorization_.empty()) request.set(http::field::authorization, authorization_);
    request.keep_alive(false);
    request.body() = std::move(body);
    request.prepare_payload();
    auto stream = std::make_shared<Stream>(io_, std::move(request), std::move(on_event), std::move(on_end));
    asio::post(io_, [this, stream, timeout] { stream->Start(host_, port_, timeout); });
  }

 private:
  const std::string host_, port_, authorization_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<EventStreams>> EventStreams::Create(const std::string& address,
                                                                   std::string authorization) {
  ASSIGN_OR_RETURN(HostPort server, ParseHostPort("--rest", address));
  return std::make_unique<EventStreamsImpl>(std::move(server.host), std::move(server.port), std::move(authorization));
}

}  // namespace expertd::rest
