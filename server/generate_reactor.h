// GenerateReactor: one Generate call. It collects the same events that a stream sends into one response.
#pragma once

#include <grpcpp/support/server_callback.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "expertd/v1/inference.pb.h"
#include "server/generation_call.h"

namespace expertd {

class GenerateReactor final : public grpc::ServerUnaryReactor, public GenerationCall {
 public:
  // Starts the call; it deletes itself. `answer` is gRPC's and lives until Finish.
  static grpc::ServerUnaryReactor* Start(const GenerationEnvironment& environment, grpc::CallbackServerContext* context,
                                         grpc::ByteBuffer* answer, CallGate::Ticket ticket);

  void OnCancel() override;
  void OnDone() override { Release(); }
  void OnReady() override { Collect(); }

 private:
  GenerateReactor(const GenerationEnvironment& environment, grpc::CallbackServerContext* context,
                  grpc::ByteBuffer* answer, CallGate::Ticket ticket)
      : GenerationCall(environment, context, std::move(ticket)), answer_(answer) {}

  void OnAdmitted() override;
  void OnRefused(const absl::Status& status) override { End(status); }

  // Takes what is there; ends the call when that was all.
  void Collect() ABSL_LOCKS_EXCLUDED(mutex_);
  void Add(StreamEvent&& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the call, if it has not ended.
  void End(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  bool is_admitted_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_finished_ ABSL_GUARDED_BY(mutex_) = false;
  v1::GenerateResponse response_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer* const answer_ ABSL_PT_GUARDED_BY(mutex_);
};

}  // namespace expertd
