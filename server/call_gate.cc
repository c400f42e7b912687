#include "server/call_gate.h"

#include "absl/time/clock.h"
#include "engine/base/log.h"
#include "engine/request/errors.h"
#include "server/message.h"

namespace expertd {
namespace {

constexpr int kOpenCallHeadroom = 256;

absl::Status OverLimit(std::string_view reason, std::string_view flag, int64_t maximum, std::string_view message) {
  ErrorDetail detail{.reason = std::string(reason), .retry_delay = absl::Seconds(1)};
  detail.metadata = {{"limit", std::string(flag)}, {"value", StrCat(maximum)}};
  return MakeError(absl::StatusCode::kResourceExhausted, message, detail);
}

}  // namespace

CallGate::Ticket::~Ticket() {
  if (gate_ == nullptr) return;
  gate_->num_live_.fetch_sub(1, std::memory_order_relaxed);
  if (gate_->observer_ == nullptr) return;
  gate_->observer_->OnRpcFinished(method_, status_.code(), ErrorReasonOf(status_), absl::Now() - start_);
}

CallGate::Ticket CallGate::Admit(const grpc::CallbackServerContext& context, std::string_view method, Access access,
                                 const grpc::ByteBuffer* request) {
  Ticket ticket;
  ticket.gate_ = this;
  ticket.method_ = method;
  ticket.start_ = absl::Now();
  // gRPC would keep the bytes until the call ends, long after they are read. The object is its own and not constant; it
  // only hands it out as such.
  grpc::ByteBuffer bytes;
  const bool has_come = request == nullptr || request->Valid();
  if (request != nullptr) bytes.Swap(const_cast<grpc::ByteBuffer*>(request));
  const int num_live = num_live_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (observer_ != nullptr) observer_->OnRpcStarted(method);
  ByteBudget::Share share;
  // gRPC tells of calls that were cut off in the middle of their request too. There is nobody left to answer.
  ticket.status_ = has_come ? Check(context, access, num_live, bytes.Length(), share)
                            : MakeError(absl::StatusCode::kCancelled, "the call ended before its request had come",
                                        {.reason = std::string(error_reason::kClientCancelled)});
  if (ticket.status_.ok()) ticket.request_ = HeldRequest(std::move(bytes), std::move(share), limits_.max_request_bytes);
  return ticket;
}

absl::Status CallGate::Check(const grpc::CallbackServerContext& context, Access access, int num_live, size_t num_bytes,
                             ByteBudget::Share& share) {
  const bool is_open = access == Access::kOpen;
  if (const int limit = limits_.max_live_calls + (is_open ? kOpenCallHeadroom : 0); num_live > limit) {
    return OverLimit(error_reason::kTooManyCalls, "max-live-calls", limits_.max_live_calls,
                     StrCat("the server has ", limits_.max_live_calls, " live calls, its limit"));
  }
  if (!is_open) RETURN_IF_ERROR(keys_.Check(FindMetadata(context, "authorization")));
  if (num_bytes > limits_.max_request_bytes) return MessageTooLarge("request", limits_.max_request_bytes);
  // Open calls are read at once, and must be answered under full load.
  if (!is_open && !budget_.Take(static_cast<int64_t>(num_bytes), share)) {
    return OverLimit(error_reason::kTooManyBytes, "max-live-request-bytes", limits_.max_live_request_bytes,
                     StrCat("the requests that are being read hold ", limits_.max_live_request_bytes,
                            " bytes, the server's limit"));
  }
  return absl::OkStatus();
}

absl::Status UnexpectedException(const char* what) {
  LogError("unexpected_exception", {{"what", what}});
  return absl::InternalError("the server failed on this call; its log tells why");
}

std::string_view FindMetadata(const grpc::CallbackServerContext& context, std::string_view key) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(grpc::string_ref(key.data(), key.size()));
  if (found == metadata.end()) return {};
  return {found->second.data(), found->second.size()};
}

}  // namespace expertd
