// CallGate: every call of every service passes here first. It asks for the key, caps how many calls live at once, and
// tells the observer of each call's start and end.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <exception>
#include <new>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/strings.h"
#include "engine/request/rpc_stats.h"
#include "server/auth.h"
#include "server/status.h"

namespace expertd {

// Thread-safe; outlives its tickets.
class CallGate {
 public:
  enum class Access {
    kKey,   // needs a key, where keys are needed at all
    kOpen,  // needs none (health): such calls also have some room above the cap, to be answered under full load
  };

  // Stands for one live call. Movable; reports the call's end when it goes.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(gate_, other.gate_);
      std::swap(method_, other.method_);
      std::swap(start_, other.start_);
      std::swap(status_, other.status_);
      return *this;
    }
    ~Ticket();

    // Why the call may not go on; OK when it may. Later, how it ended.
    const absl::Status& status() const { return status_; }
    void set_status(absl::Status status) { status_ = std::move(status); }
    absl::Time start() const { return start_; }

   private:
    friend class CallGate;
    CallGate* gate_ = nullptr;
    std::string_view method_;
    absl::Time start_;
    absl::Status status_;
  };

  // `observer` may be null, and outlives the gate.
  CallGate(KeyRing keys, int max_live_calls, RpcObserver* observer)
      : keys_(std::move(keys)), max_live_calls_(max_live_calls), observer_(observer) {}

  // Counts the call in any case. The ticket's status is OK, Unauthenticated API_KEY_INVALID or ResourceExhausted
  // TOO_MANY_CALLS. `method` is a literal ("expertd.v1.InferenceService/Generate").
  Ticket Admit(const grpc::CallbackServerContext& context, std::string_view method, Access access);

  int num_live() const { return num_live_.load(std::memory_order_relaxed); }

 private:
  const KeyRing keys_;
  const int max_live_calls_;
  RpcObserver* const observer_;
  std::atomic<int> num_live_{0};
};

// The value of a metadata key; empty when there is none.
std::string_view FindMetadata(const grpc::CallbackServerContext& context, std::string_view key);

// Runs `body` (absl::Status()); what a library throws becomes a status. The wall that no exception passes.
template <typename Body>
absl::Status CatchAll(Body&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return absl::InternalError("out of memory");
  } catch (const std::exception& e) {
    return absl::InternalError(StrCat("unexpected: ", e.what()));
  } catch (...) {
    return absl::InternalError("unexpected exception");
  }
}

// Answers a short unary call on gRPC's own thread: `handler` (absl::Status()) fills the response.
template <typename Handler>
grpc::ServerUnaryReactor* AnswerUnary(CallGate& gate, grpc::CallbackServerContext* context, std::string_view method,
                                      CallGate::Access access, Handler&& handler) {
  CallGate::Ticket ticket = gate.Admit(*context, method, access);
  if (ticket.status().ok()) ticket.set_status(CatchAll(handler));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
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
