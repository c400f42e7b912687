// ControlService of the contract: what the server is, how busy it is, and the abort of requests.
#pragma once

#include <memory>
#include <unordered_set>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "expertd/v1/control.grpc.pb.h"
#include "server/call_gate.h"
#include "server/server_state.h"
#include "server/threads.h"

namespace expertd {

// Thread-safe. What it is given outlives it.
class ControlService final
    : public v1::ControlService::WithRawCallbackMethod_GetServerInfo<
          v1::ControlService::WithRawCallbackMethod_GetLoad<
              v1::ControlService::WithRawCallbackMethod_WatchLoad<
                  v1::ControlService::WithRawCallbackMethod_AbortRequest<v1::ControlService::Service>>>> {
 public:
  ControlService(const ServerState& state, CallGate& gate, Dispatcher& dispatcher)
      : state_(state), gate_(gate), dispatcher_(dispatcher) {}

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* answer) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                    grpc::ByteBuffer* answer) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* WatchLoad(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* AbortRequest(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* answer) override;

  // Ends all watches with Unavailable DRAINING, and such that begin later: they would hold up the server's end.
  void EndWatches();

 private:
  class LoadWatch;

  void FillLoadNow(v1::Load* load) const;
  // False when watches have been ended.
  bool AddWatch(const std::shared_ptr<LoadWatch>& watch);
  void RemoveWatch(const std::shared_ptr<LoadWatch>& watch);

  const ServerState& state_;
  CallGate& gate_;
  Dispatcher& dispatcher_;
  absl::Mutex mutex_;
  bool watches_ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::unordered_set<std::shared_ptr<LoadWatch>> watches_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace expertd
