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
class ControlService final : public v1::ControlService::CallbackService {
 public:
  ControlService(const ServerState& state, CallGate& gate, Dispatcher& dispatcher)
      : state_(state), gate_(gate), dispatcher_(dispatcher) {}

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest* request,
                                          v1::GetServerInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* context, const v1::GetLoadRequest* request,
                                    v1::GetLoadResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchLoadResponse>* WatchLoad(grpc::CallbackServerContext* context,
                                                             const v1::WatchLoadRequest* request) override;
  grpc::ServerUnaryReactor* AbortRequest(grpc::CallbackServerContext* context, const v1::AbortRequestRequest* request,
                                         v1::AbortRequestResponse* response) override;

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
