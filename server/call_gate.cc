#include "server/call_gate.h"

#include "absl/time/clock.h"
#include "engine/request/errors.h"

namespace expertd {
namespace {

constexpr int kOpenCallHeadroom = 256;

}  // namespace

CallGate::Ticket::~Ticket() {
  if (gate_ == nullptr) return;
  gate_->num_live_.fetch_sub(1, std::memory_order_relaxed);
  if (gate_->observer_ == nullptr) return;
  gate_->observer_->OnRpcFinished(method_, status_.code(), ErrorReasonOf(status_), absl::Now() - start_);
}

CallGate::Ticket CallGate::Admit(const grpc::CallbackServerContext& context, std::string_view method, Access access) {
  Ticket ticket;
  ticket.gate_ = this;
  ticket.method_ = method;
  ticket.start_ = absl::Now();
  const int num_live = num_live_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (observer_ != nullptr) observer_->OnRpcStarted(method);

  const bool is_open = access == Access::kOpen;
  if (const int limit = max_live_calls_ + (is_open ? kOpenCallHeadroom : 0); num_live > limit) {
    ErrorDetail detail{.reason = std::string(error_reason::kTooManyCalls), .retry_delay = absl::Seconds(1)};
    detail.metadata = {{"limit", "max-live-calls"}, {"value", StrCat(max_live_calls_)}};
    ticket.status_ = MakeError(absl::StatusCode::kResourceExhausted,
                               StrCat("the server has ", max_live_calls_, " live calls, its limit"), detail);
  } else if (!is_open) {
    ticket.status_ = keys_.Check(FindMetadata(context, "authorization"));
  }
  return ticket;
}

std::string_view FindMetadata(const grpc::CallbackServerContext& context, std::string_view key) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(grpc::string_ref(key.data(), key.size()));
  if (found == metadata.end()) return {};
  return {found->second.data(), found->second.size()};
}

}  // namespace expertd
