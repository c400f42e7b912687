// One StreamGenerate call, read an event at a time: the next is asked for when the last has been passed on, so that a
// slow reader of HTTP is a slow reader of gRPC, whose deltas the server merges.
#pragma once

#include <functional>
#include <memory>

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "clients/rest_shim/upstream.h"
#include "expertd/v1/inference.pb.h"

namespace expertd::rest {

// Lives until the call's end. Thread-safe.
class GenerationCall final : public grpc::ClientReadReactor<v1::StreamGenerateResponse>,
                               public std::enable_shared_from_this<GenerationCall> {
 public:
  // Called on a thread of gRPC's, one at a time; then nothing comes until Next.
  using OnEvent = std::function<void(const v1::StreamGenerateResponse&)>;
  // Called once, after the last event.
  using OnEnd = std::function<void(const grpc::Status&)>;

  GenerationCall(const RestCall& call, v1::GenerateRequest request);

  // Once. Both are forgotten at the end.
  void Start(Upstream& upstream, OnEvent on_event, OnEnd on_end);

  // The event has been dealt with.
  void Next();

  // Ends the call soon, if it has not ended.
  void Cancel();

 private:
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  grpc::ClientContext context_;
  const v1::GenerateRequest request_;
  v1::StreamGenerateResponse response_;
  OnEvent on_event_;
  OnEnd on_end_;
  std::shared_ptr<GenerationCall> self_;
  absl::Mutex mutex_;
  // A call must not end between an event and the Next that follows, from another thread: a hold of gRPC's prevents it.
  bool is_held_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace expertd::rest
