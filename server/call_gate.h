// CallGate: every call of every service passes here first. It asks for the key, caps how many calls live at once and
// how many bytes their requests hold, and tells the observer of each call's start and end.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <exception>
#include <new>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "engine/request/rpc_stats.h"
#include "server/auth.h"
#include "server/byte_budget.h"
#include "server/message.h"
#include "server/status.h"

namespace expertd {

// As the settings of the same names in ServerConfig.
struct CallLimits {
  int max_live_calls = 0;
  int64_t max_live_request_bytes = 0;
  size_t max_request_bytes = 0;
  size_t max_answer_bytes = 0;
};

// Thread-safe; outlives its tickets.
class CallGate {
 public:
  enum class Access {
    kKey,   // needs a key, where keys are needed at all
    kOpen,  // needs none (health): such calls also have some room above the caps, to be answered under full load
  };

  // Stands for one live call, and holds its request until that is read. Movable; reports the call's end when it goes.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(gate_, other.gate_);
      std::swap(method_, other.method_);
      std::swap(start_, other.start_);
      std::swap(status_, other.status_);
      std::swap(request_, other.request_);
      return *this;
    }
    ~Ticket();

    // Why the call may not go on; OK when it may. Later, how it ended.
    const absl::Status& status() const { return status_; }
    void set_status(absl::Status status) { status_ = std::move(status); }
    absl::Time start() const { return start_; }

    // The request, for who is to read it. Once.
    HeldRequest TakeRequest() { return std::exchange(request_, HeldRequest()); }

   private:
    friend class CallGate;
    CallGate* gate_ = nullptr;
    std::string_view method_;
    absl::Time start_;
    absl::Status status_;
    HeldRequest request_;
  };

  // `observer` may be null, and outlives the gate.
  CallGate(KeyRing keys, const CallLimits& limits, RpcObserver* observer)
      : keys_(std::move(keys)), limits_(limits), budget_(limits.max_live_request_bytes), observer_(observer) {}

  // Counts the call in any case. The ticket's status is OK, Unauthenticated API_KEY_INVALID, ResourceExhausted
  // TOO_MANY_CALLS, MESSAGE_TOO_LARGE or TOO_MANY_BYTES, or Cancelled CLIENT_CANCELLED. `method` is a literal
  // ("expertd.v1.InferenceService/Generate"). `request` is gRPC's copy of the request, which the ticket takes; null for
  // a call whose messages come one by one.
  Ticket Admit(const grpc::CallbackServerContext& context, std::string_view method, Access access,
               const grpc::ByteBuffer* request);

  int num_live() const { return num_live_.load(std::memory_order_relaxed); }
  const CallLimits& limits() const { return limits_; }

 private:
  absl::Status Check(const grpc::CallbackServerContext& context, Access access, int num_live, size_t num_bytes,
                     ByteBudget::Share& share);

  const KeyRing keys_;
  const CallLimits limits_;
  ByteBudget budget_;
  RpcObserver* const observer_;
  std::atomic<int> num_live_{0};
};

// The value of a metadata key; empty when there is none.
std::string_view FindMetadata(const grpc::CallbackServerContext& context, std::string_view key);

// Logs `what`, which is not for callers; Internal.
absl::Status UnexpectedException(const char* what);

// Runs `body` (absl::Status()); what a library throws becomes a status. The wall that no exception passes.
template <typename Body>
absl::Status CatchAll(Body&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return absl::InternalError("out of memory");
  } catch (const std::exception& e) {
    return UnexpectedException(e.what());
  } catch (...) {
    return UnexpectedException("of an unknown type");
  }
}

// A unary call as gRPC hands it over; all three live until Finish.
struct UnaryCall {
  grpc::CallbackServerContext* context;
  const grpc::ByteBuffer* request;
  grpc::ByteBuffer* answer;
};

// Of requests that are read on gRPC's own threads: none of those methods has more to say.
inline constexpr size_t kMaxShortRequestBytes = 1 << 20;

// Answers a short unary call on gRPC's own thread by `handler` (absl::Status(const Request&, Response*)).
template <typename Request, typename Response, typename Handler>
grpc::ServerUnaryReactor* AnswerUnary(CallGate& gate, const UnaryCall& call, std::string_view method,
                                      CallGate::Access access, Handler&& handler) {
  CallGate::Ticket ticket = gate.Admit(*call.context, method, access, call.request);
  if (ticket.status().ok()) {
    ticket.set_status(CatchAll([&]() -> absl::Status {
      Request request;
      Response response;
      RETURN_IF_ERROR(ticket.TakeRequest().Read(&request, kMaxShortRequestBytes));
      RETURN_IF_ERROR(handler(request, &response));
      return WriteMessage(response, gate.limits().max_answer_bytes, call.answer);
    }));
  }
  grpc::ServerUnaryReactor* reactor = call.context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(ticket.status()));
  return reactor;
}

// Ends a streaming call at once.
template <typename Reactor>
class RefusingReactor final : public Reactor {
 public:
  explicit RefusingReactor(const absl::Status& status) { this->Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

}  // namespace expertd
