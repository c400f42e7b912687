// grpc.health.v1 over ServerState. Answers on gRPC's own threads and waits for nothing, so that probes are answered
// under full load and while the model loads. No key is needed.
#pragma once

#include <memory>
#include <string_view>
#include <unordered_set>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/call_gate.h"
#include "server/server_state.h"

namespace expertd {

// Thread-safe. What it is given outlives it.
class HealthService final
    : public grpc::health::v1::Health::WithRawCallbackMethod_Check<
          grpc::health::v1::Health::WithRawCallbackMethod_Watch<grpc::health::v1::Health::Service>> {
 public:
  using Request = grpc::health::v1::HealthCheckRequest;
  using Response = grpc::health::v1::HealthCheckResponse;

  HealthService(const ServerState& state, CallGate& gate) : state_(state), gate_(gate) {}

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* answer) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Watch(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* request) override;

  // Tells the watches what has changed. Called after each change of ServerState, and now and then for the engine's own.
  void Refresh();
  // Ends all watches with Unavailable, and such that begin later: they would hold up the server's end.
  void EndWatches();

 private:
  class HealthWatch;

  // SERVICE_UNKNOWN for a name that is not known.
  Response::ServingStatus StatusOf(std::string_view service) const;

  const ServerState& state_;
  CallGate& gate_;
  absl::Mutex mutex_;
  bool watches_ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::unordered_set<std::shared_ptr<HealthWatch>> watches_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace expertd
