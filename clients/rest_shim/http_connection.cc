#include "clients/rest_shim/http_connection.h"

#include <chrono>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/strings.h"

namespace expertd::rest {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr size_t kReadBytes = 16 << 10;
// Of further requests that a client sends before it has its answer; then it is not read from for a while.
constexpr size_t kMaxReadAhead = 32 << 10;
// Of what is read and not parsed yet. The parser limits headers and bodies, but neither the extensions of chunks nor
// trailers; and Boost's fields throw for values above 64 KiB.
constexpr size_t kMaxUnparsed = 56 << 10;
// For a client that still sends what nobody wants to read its error.
constexpr absl::Duration kLingerTimeout = absl::Seconds(2);
constexpr std::string_view kServerName = "expertd";

std::string_view View(beast::string_view text) { return {text.data(), text.size()}; }
beast::string_view View(std::string_view text) { return {text.data(), text.size()}; }

std::chrono::milliseconds ToChrono(absl::Duration duration) {
  return std::chrono::milliseconds(absl::ToInt64Milliseconds(duration));
}

bool HasExpired(const asio::steady_timer& timer) { return timer.expiry() <= std::chrono::steady_clock::now(); }

// A part of HttpShared::live_body_bytes.
class BodyShare {
 public:
  explicit BodyShare(HttpShared& shared) : shared_(shared) {}
  ~BodyShare() { shared_.live_body_bytes.fetch_sub(bytes_); }
  BodyShare(const BodyShare&) = delete;
  BodyShare& operator=(const BodyShare&) = delete;

  // False when all requests together would hold too much.
  bool GrowTo(int64_t bytes) {
    const int64_t more = bytes - bytes_;
    if (shared_.live_body_bytes.fetch_add(more) + more > shared_.limits.max_live_body_bytes) {
      shared_.live_body_bytes.fetch_sub(more);
      return false;
    }
    bytes_ = bytes;
    return true;
  }

 private:
  HttpShared& shared_;
  int64_t bytes_ = 0;
};

class Connection;

// One request on its connection. Whoever answers holds it; it holds the connection.
class Exchange final : public HttpExchange {
 public:
  Exchange(std::shared_ptr<Connection> connection, uint64_t number, HttpRequest request,
           std::unique_ptr<BodyShare> share);
  ~Exchange() override;

  const HttpRequest& request() const override { return request_; }
  std::string TakeBody() override {
    share_.reset();
    return std::move(request_.body);
  }
  void Send(HttpResponse response) override;
  void StartStream(HttpResponse head, std::string keepalive) override;
  void Write(std::string piece, std::function<void()> on_written) override;
  void EndStream() override;
  void SetOnGone(std::function<void()> on_gone) override;

 private:
  // Runs `step` on the connection's strand, unless the connection is done with this exchange.
  template <typename Step>
  void Post(Step step);

  const std::shared_ptr<Connection> connection_;
  const uint64_t number_;  // among those of the connection
  HttpRequest request_;
  std::unique_ptr<BodyShare> share_;
};

// A connection: reads a request, waits for its answer, writes it, and begins anew. All but construction runs on its
// strand. While a request is answered it goes on reading, to learn when the client goes and to keep what it pipelines.
class Connection final : public HttpConnection, public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, HttpShared& shared)
      : socket_(std::move(socket)), read_timer_(socket_.get_executor()), write_timer_(socket_.get_executor()),
        keepalive_timer_(socket_.get_executor()), shared_(shared) {
    shared_.num_connections.fetch_add(1);
  }
  ~Connection() override { shared_.num_connections.fetch_sub(1); }

  auto executor() { return socket_.get_executor(); }
  HttpShared& shared() { return shared_; }

  void Start() override {
    asio::dispatch(executor(), [self = shared_from_this()] { self->AwaitRequest(); });
  }

  void Close() override {
    asio::post(executor(), [self = shared_from_this()] { self->Drop(); });
  }

  void CloseWhenIdle() override {
    asio::post(executor(), [self = shared_from_this()] {
      if (!self->is_answering_ && !self->is_reading_request_) self->Drop();
    });
  }

  // The rest is called by the exchange, on the strand.
  void Send(HttpResponse response);
  void StartStream(HttpResponse head, std::string keepalive);
  void Write(std::string piece, std::function<void()> on_written);
  void EndStream();
  void SetOnGone(uint64_t number, std::function<void()> on_gone);
  void OnExchangeDropped();
  bool is_answering(uint64_t number) const { return is_answering_ && number == num_exchanges_; }

 private:
  using Parser = http::request_parser<http::string_body>;
  using Head = http::response<http::empty_body>;

  // Reading.
  void AwaitRequest();
  void ReadAhead();
  void OnReadAhead(error_code error, size_t num_bytes);
  void ReadHeader();
  void OnHeader(error_code error);
  void SendContinue();
  void ReadBody();
  void OnBody(error_code error);
  void Handle();
  void Refuse(int status, std::string_view message);
  void RefuseParse(error_code error);

  // Writing.
  Head MakeHead(const HttpResponse& response) const;
  void WriteBytes(std::string bytes, std::function<void()> on_written);
  void ArmKeepalive();
  void FinishAnswer();
  void Linger();
  void ReadAway();

  // Ending.
  void SetReadDeadline(absl::Duration timeout, std::function<void()> on_expired);
  void Drop();

  tcp::socket socket_;
  asio::steady_timer read_timer_, write_timer_, keepalive_timer_;
  HttpShared& shared_;

  beast::flat_buffer buffer_{kMaxUnparsed};
  std::optional<Parser> parser_;
  std::unique_ptr<BodyShare> share_;
  bool is_reading_request_ = false;  // from a header's first byte to the body's last
  bool is_reading_ = false;          // an operation that fills buffer_ is under way
  bool is_answering_ = false;        // from the request's last byte to the answer's
  bool is_resuming_ = false;         // the answer is out; waits for the read ahead to be cancelled
  bool is_lingering_ = false;        // the last answer is out; what still comes is read away
  bool is_closed_ = false;

  uint64_t num_exchanges_ = 0;
  bool has_sent_head_ = false;
  bool keeps_alive_ = false;
  bool is_chunked_ = false;
  bool is_head_request_ = false;
  unsigned version_ = 11;
  bool is_writing_ = false;
  std::string outgoing_;
  std::string keepalive_;
  // A piece that came while a keepalive was being written.
  std::optional<std::pair<std::string, std::function<void()>>> waiting_piece_;
  std::function<void()> on_gone_;
};

template <typename Step>
void Exchange::Post(Step step) {
  asio::post(connection_->executor(), [connection = connection_, number = number_, step = std::move(step)]() mutable {
    if (connection->is_answering(number)) step(*connection);
  });
}

Exchange::Exchange(std::shared_ptr<Connection> connection, uint64_t number, HttpRequest request,
                   std::unique_ptr<BodyShare> share)
    : connection_(std::move(connection)), number_(number), request_(std::move(request)), share_(std::move(share)) {
  connection_->shared().AddExchanges(1);
}

Exchange::~Exchange() {
  // Counted off only there: until then the server, on whose threads this runs, does not stop.
  asio::post(connection_->executor(), [connection = connection_, number = number_] {
    if (connection->is_answering(number)) connection->OnExchangeDropped();
    connection->shared().AddExchanges(-1);
  });
}

void Exchange::Send(HttpResponse response) {
  Post([response = std::move(response)](Connection& connection) mutable { connection.Send(std::move(response)); });
}

void Exchange::StartStream(HttpResponse head, std::string keepalive) {
  Post([head = std::move(head), keepalive = std::move(keepalive)](Connection& connection) mutable {
    connection.StartStream(std::move(head), std::move(keepalive));
  });
}

void Exchange::Write(std::string piece, std::function<void()> on_written) {
  Post([piece = std::move(piece), on_written = std::move(on_written)](Connection& connection) mutable {
    connection.Write(std::move(piece), std::move(on_written));
  });
}

void Exchange::EndStream() {
  Post([](Connection& connection) { connection.EndStream(); });
}

void Exchange::SetOnGone(std::function<void()> on_gone) {
  asio::post(connection_->executor(),
             [connection = connection_, number = number_, on_gone = std::move(on_gone)]() mutable {
               connection->SetOnGone(number, std::move(on_gone));
             });
}

void Connection::SetReadDeadline(absl::Duration timeout, std::function<void()> on_expired) {
  read_timer_.expires_after(ToChrono(timeout));
  read_timer_.async_wait([self = shared_from_this(), on_expired = std::move(on_expired)](error_code error) {
    // A timer that is set anew may have its former end still under way.
    if (!error && !self->is_closed_ && HasExpired(self->read_timer_)) on_expired();
  });
}

void Connection::Drop() {
  if (std::exchange(is_closed_, true)) return;
  error_code ignored;
  socket_.close(ignored);
  read_timer_.cancel();
  write_timer_.cancel();
  keepalive_timer_.cancel();
  if (std::exchange(is_reading_request_, false)) shared_.AddRequests(-1);
  if (std::exchange(is_answering_, false)) shared_.AddRequests(-1);
  waiting_piece_.reset();
  if (auto on_gone = std::exchange(on_gone_, nullptr)) on_gone();
}

void Connection::AwaitRequest() {
  if (is_closed_) return;
  if (shared_.is_stopping) return Drop();
  if (buffer_.size() > 0) return ReadHeader();
  SetReadDeadline(shared_.limits.idle_timeout, [this] { Drop(); });
  ReadAhead();
}

void Connection::ReadAhead() {
  is_reading_ = true;
  socket_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this()](error_code error, size_t num_bytes) {
                            self->OnReadAhead(error, num_bytes);
                          });
}

void Connection::OnReadAhead(error_code error, size_t num_bytes) {
  is_reading_ = false;
  if (is_closed_) return;
  if (is_lingering_) return ReadAway();
  buffer_.commit(num_bytes);
  if (std::exchange(is_resuming_, false)) return AwaitRequest();
  if (error) return Drop();
  if (!is_answering_) return ReadHeader();
  if (buffer_.size() < kMaxReadAhead) ReadAhead();
}

void Connection::ReadHeader() {
  is_reading_request_ = true;
  shared_.AddRequests(1);
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(shared_.limits.max_header_bytes));
  parser_->body_limit(shared_.limits.max_body_bytes);
  SetReadDeadline(shared_.limits.header_timeout, [this] { Refuse(408, "the header did not come in time"); });
  is_reading_ = true;
  http::async_read_header(socket_, buffer_, *parser_,
                          [self = shared_from_this()](error_code error, size_t) { self->OnHeader(error); });
}

void Connection::OnHeader(error_code error) {
  is_reading_ = false;
  if (is_lingering_) return ReadAway();
  if (is_closed_ || !is_reading_request_) return;
  if (error == http::error::end_of_stream) return Drop();
  if (error) return RefuseParse(error);
  version_ = parser_->get().version();
  is_head_request_ = parser_->get().method() == http::verb::head;
  share_ = std::make_unique<BodyShare>(shared_);
  SetReadDeadline(shared_.limits.body_timeout, [this] { Refuse(408, "the body did not come in time"); });
  const bool waits = beast::iequals(parser_->get()[http::field::expect], "100-continue");
  if (waits && version_ >= 11 && !parser_->is_done()) return SendContinue();
  ReadBody();
}

void Connection::SendContinue() {
  WriteBytes("HTTP/1.1 100 Continue\r\n\r\n", [this] { ReadBody(); });
}

void Connection::ReadBody() {
  if (parser_->is_done()) return Handle();
  is_reading_ = true;
  http::async_read_some(socket_, buffer_, *parser_,
                        [self = shared_from_this()](error_code error, size_t) { self->OnBody(error); });
}

void Connection::OnBody(error_code error) {
  is_reading_ = false;
  if (is_lingering_) return ReadAway();
  if (is_closed_ || !is_reading_request_) return;
  if (error && error != http::error::need_more) return RefuseParse(error);
  if (!share_->GrowTo(static_cast<int64_t>(parser_->get().body().size()))) {
    return Refuse(503, StrCat("the requests that are being read hold ", shared_.limits.max_live_body_bytes,
                              " bytes, the server's limit"));
  }
  ReadBody();
}

void Connection::Handle() {
  read_timer_.cancel();
  is_reading_request_ = false;
  is_answering_ = true;  // stays one of num_requests
  has_sent_head_ = false;
  http::request<http::string_body> message = parser_->release();
  parser_.reset();
  keeps_alive_ = message.keep_alive();
  HttpRequest request;
  request.method = std::string(View(message.method_string()));
  const std::string_view target = View(message.target());
  request.path = std::string(target.substr(0, target.find_first_of("?#")));
  request.content_type = std::string(View(message[http::field::content_type]));
  request.authorization = std::string(View(message[http::field::authorization]));
  request.request_id = std::string(View(message["x-request-id"]));
  request.body = std::move(message.body());
  ReadAhead();
  shared_.handler(
      std::make_shared<Exchange>(shared_from_this(), ++num_exchanges_, std::move(request), std::move(share_)));
}

void Connection::RefuseParse(error_code error) {
  if (error == http::error::header_limit) return Refuse(431, "the header is too long");
  if (error == http::error::body_limit) {
    return Refuse(413, StrCat("the body is longer than ", shared_.limits.max_body_bytes, " bytes"));
  }
  if (error.category() == make_error_code(http::error::bad_method).category() &&
      error != http::error::partial_message) {
    return Refuse(400, StrCat("not valid HTTP: ", error.message()));
  }
  Drop();
}

void Connection::Refuse(int status, std::string_view message) {
  if (is_closed_ || !is_reading_request_) return;
  read_timer_.cancel();
  is_reading_request_ = false;
  is_answering_ = true;
  ++num_exchanges_;
  has_sent_head_ = false;
  keeps_alive_ = false;
  share_.reset();
  error_code ignored;
  socket_.cancel(ignored);  // a read that may still be under way
  Send({.status = status, .body = shared_.error_body(status, message)});
}

Connection::Head Connection::MakeHead(const HttpResponse& response) const {
  Head head(static_cast<http::status>(response.status), version_);
  if (!response.reason.empty()) head.reason(response.reason);
  head.set(http::field::server, View(kServerName));
  head.set(http::field::content_type, response.content_type);
  for (const auto& [name, value] : response.headers) head.set(View(std::string_view(name)), value);
  return head;
}

// The bytes of a head, with the blank line.
std::string HeadText(const http::response<http::empty_body>& head) {
  std::ostringstream text;
  text << head.base();
  return std::move(text).str();
}

void Connection::Send(HttpResponse response) {
  if (is_closed_ || !is_answering_ || std::exchange(has_sent_head_, true)) return;
  Head head = MakeHead(response);
  // Whoever tries again behind 503 may find another server, by another connection.
  keeps_alive_ = keeps_alive_ && !shared_.is_stopping && response.status != 503;
  head.keep_alive(keeps_alive_);
  head.content_length(response.body.size());
  std::string bytes = HeadText(head);
  if (!is_head_request_) bytes += response.body;
  WriteBytes(std::move(bytes), [this] { FinishAnswer(); });
}

void Connection::StartStream(HttpResponse response, std::string keepalive) {
  if (is_closed_ || !is_answering_ || std::exchange(has_sent_head_, true)) return;
  Head head = MakeHead(response);
  is_chunked_ = version_ >= 11;
  keeps_alive_ = keeps_alive_ && is_chunked_ && !shared_.is_stopping;
  head.keep_alive(keeps_alive_);
  if (is_chunked_) head.chunked(true);
  keepalive_ = std::move(keepalive);
  WriteBytes(HeadText(head), [this] { ArmKeepalive(); });
}

// `piece` as it goes over the wire.
std::string Chunk(std::string_view piece, bool is_chunked) {
  if (!is_chunked) return std::string(piece);
  return StrCat(absl::Hex(piece.size()), "\r\n", piece, "\r\n");
}

void Connection::Write(std::string piece, std::function<void()> on_written) {
  if (is_closed_ || !is_answering_ || piece.empty()) return;
  if (is_writing_) {
    waiting_piece_.emplace(std::move(piece), std::move(on_written));
    return;
  }
  keepalive_timer_.cancel();
  WriteBytes(Chunk(piece, is_chunked_), [this, on_written = std::move(on_written)] {
    ArmKeepalive();
    on_written();
  });
}

void Connection::EndStream() {
  if (is_closed_ || !is_answering_) return;
  keepalive_timer_.cancel();
  keepalive_.clear();
  // Behind a keepalive that is being written.
  if (is_writing_) {
    waiting_piece_.emplace("", nullptr);
    return;
  }
  if (!is_chunked_) return FinishAnswer();
  WriteBytes("0\r\n\r\n", [this] { FinishAnswer(); });
}

void Connection::ArmKeepalive() {
  if (keepalive_.empty()) return;
  keepalive_timer_.expires_after(ToChrono(shared_.limits.keepalive_interval));
  keepalive_timer_.async_wait([self = shared_from_this()](error_code error) {
    if (error || self->is_closed_ || self->is_writing_ || self->keepalive_.empty()) return;
    self->WriteBytes(Chunk(self->keepalive_, self->is_chunked_), [self] { self->ArmKeepalive(); });
  });
}

void Connection::WriteBytes(std::string bytes, std::function<void()> on_written) {
  is_writing_ = true;
  outgoing_ = std::move(bytes);
  write_timer_.expires_after(ToChrono(shared_.limits.write_timeout));
  write_timer_.async_wait([self = shared_from_this()](error_code error) {
    if (!error && self->is_writing_ && HasExpired(self->write_timer_)) self->Drop();
  });
  asio::async_write(socket_, asio::buffer(outgoing_),
                    [self = shared_from_this(), on_written = std::move(on_written)](error_code error, size_t) {
                      self->is_writing_ = false;
                      self->write_timer_.cancel();
                      if (self->is_closed_) return;
                      if (error) return self->Drop();
                      on_written();
                      if (self->is_writing_ || self->is_closed_ || !self->waiting_piece_.has_value()) return;
                      auto [piece, then] = *std::exchange(self->waiting_piece_, std::nullopt);
                      if (then == nullptr) return self->EndStream();
                      self->Write(std::move(piece), std::move(then));
                    });
}

void Connection::FinishAnswer() {
  on_gone_ = nullptr;
  if (!keeps_alive_) return Linger();
  is_answering_ = false;
  shared_.AddRequests(-1);
  if (!is_reading_) return AwaitRequest();
  is_resuming_ = true;
  error_code ignored;
  socket_.cancel(ignored);
}

// Closing a socket with unread bytes would take the answer back from the client: it is told that nothing more comes,
// and what it still sends is read away for a while.
void Connection::Linger() {
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  SetReadDeadline(kLingerTimeout, [this] { Drop(); });
  is_lingering_ = true;
  ++num_exchanges_;  // whoever still holds the exchange is done with it
  if (!is_reading_) return ReadAway();
  socket_.cancel(ignored);
}

void Connection::ReadAway() {
  if (is_closed_) return;
  buffer_.clear();
  socket_.async_read_some(buffer_.prepare(kReadBytes), [self = shared_from_this()](error_code error, size_t) {
    if (self->is_closed_) return;
    if (error) return self->Drop();
    self->ReadAway();
  });
}

void Connection::SetOnGone(uint64_t number, std::function<void()> on_gone) {
  if (is_closed_) return on_gone();
  if (is_answering(number)) on_gone_ = std::move(on_gone);
}

void Connection::OnExchangeDropped() {
  if (!has_sent_head_) Drop();
}

}  // namespace

std::shared_ptr<HttpConnection> MakeHttpConnection(tcp::socket socket, HttpShared& shared) {
  return std::make_shared<Connection>(std::move(socket), shared);
}

}  // namespace expertd::rest
