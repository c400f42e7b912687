// What the RPC side of the server reports about its calls. The server calls an RpcObserver; metrics/ turns the calls
// into Prometheus series, tests record them.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace expertd {

// Implementations are thread-safe: all of gRPC's threads report at once. Calls are quick and never block. `method` is
// one of the fixed names of the contract's methods ("expertd.v1.InferenceService/Generate"), so it may be a label; it
// lives as long as the process.
class RpcObserver {
 public:
  virtual ~RpcObserver() = default;

  // A call has arrived; for each, OnRpcFinished follows once. Calls that are refused at once are counted too.
  virtual void OnRpcStarted(std::string_view method) = 0;
  // `reason` is one of error_reason, or empty for OK. `time` runs from arrival to the last byte of the answer.
  virtual void OnRpcFinished(std::string_view method, absl::StatusCode code, std::string_view reason,
                             absl::Duration time) = 0;

  // A StreamGenerate call was accepted by the engine; OnStreamClosed follows once.
  virtual void OnStreamOpened() = 0;
  virtual void OnStreamClosed() = 0;
  // One Delta was handed to the transport; `num_merged` further deltas of the engine went into it because the reader or
  // the caller's own StreamOptions made them wait.
  virtual void OnStreamMessage(int num_merged) = 0;
  // A request was read and found good, in so much time; outside the engine.
  virtual void OnValidated(absl::Duration time) = 0;

  // The transport took a message only after `waited` (reported from 100 ms on): the reader is slow.
  virtual void OnBackpressure(absl::Duration waited) = 0;
};

}  // namespace expertd
