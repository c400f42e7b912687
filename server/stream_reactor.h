// StreamReactor: one StreamGenerate call. At most one write is in flight; what the engine brings meanwhile waits,
// merged, in the GenerationStream. So memory per slow reader is bounded by what its request may generate, and a reader
// that takes nothing for --stream-stall-timeout is ended.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "expertd/v1/inference.pb.h"
#include "server/generation_call.h"

namespace expertd {

// Who may touch what: `mutex_` guards who has the turn (is_busy_: a write is in flight or being made; has_finished_:
// Finish was called). Only who took the turn calls gRPC, without the mutex. One exception: a reader that has stalled is
// finished, and later reset, beside its outstanding write.
class StreamReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public GenerationCall {
 public:
  // Starts the call; it deletes itself.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(const GenerationEnvironment& environment,
                                                           grpc::CallbackServerContext* context,
                                                           CallGate::Ticket ticket);

  // gRPC's threads.
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  // The dispatcher's thread.
  void OnReady() override { Pump(); }
  void OnTimer(absl::Time now) override;

 private:
  enum class Step { kWait, kWrite, kFinish };

  // A candidate's output that waits for StreamOptions to let it go.
  struct Held {
    DeltaEvent delta;
    absl::Time due = absl::InfinitePast();  // the next Delta may go
    bool timer_is_set = false;
  };

  StreamReactor(const GenerationEnvironment& environment, grpc::CallbackServerContext* context,
                CallGate::Ticket ticket)
      : GenerationCall(environment, context, std::move(ticket)) {}

  void OnAdmitted() override;
  void OnRefused(const absl::Status& status) override;

  // Makes the next write, or ends the call, if it is its turn and there is something to do.
  void Pump() ABSL_LOCKS_EXCLUDED(mutex_);
  void Perform(Step step);
  // Chooses the step, and has its message ready.
  Step NextStep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Fills response_ from what is at hand; false when nothing is.
  bool FillResponse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillAccepted() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillFrom(StreamEvent&& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillFromDelta(DeltaEvent&& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Puts `event` into outbox_, or holds it back.
  void Sort(StreamEvent&& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReleaseHeld(Held& held) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool ReleaseDueHeld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndStalledReader(absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  bool is_admitted_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_resetting_ ABSL_GUARDED_BY(mutex_) = false;  // TryCancel is being called beside an outstanding write
  bool is_cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool accepted_is_sent_ ABSL_GUARDED_BY(mutex_) = false;
  bool more_follows_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time write_start_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_stall_check_ ABSL_GUARDED_BY(mutex_);
  absl::Time reset_time_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // of a finished stream that won't go
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
  std::vector<Held> held_ ABSL_GUARDED_BY(mutex_);
  std::deque<StreamEvent> outbox_ ABSL_GUARDED_BY(mutex_);
  int32_t num_cached_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of the write in flight: whoever has the turn.
  v1::StreamGenerateResponse response_;
  grpc::ByteBuffer message_;  // response_, as it goes out
  grpc::WriteOptions write_options_;
};

}  // namespace expertd
