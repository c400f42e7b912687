// GenerationCall: what Generate and StreamGenerate share. A call is admitted on a worker thread (template, tokenizing,
// checks), then its outputs are carried by the dispatcher; whatever ends it early aborts its request in the engine.
#pragma once

#include <grpcpp/server_context.h>

#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/request/generation_stream.h"
#include "expertd/v1/inference.pb.h"
#include "server/call_gate.h"
#include "server/convert.h"
#include "server/server_config.h"
#include "server/server_state.h"
#include "server/threads.h"

namespace expertd {

class GenerationCall;

// The calls that live, so that a drain can end them. Thread-safe.
class GenerationRegistry {
 public:
  void Add(GenerationCall* call);
  void Remove(GenerationCall* call);
  // Ends all of them with `status`.
  void AbortAll(const absl::Status& status);
  // False when `timeout` passed before the last was gone.
  bool WaitUntilEmpty(absl::Duration timeout);

 private:
  absl::Mutex mutex_;
  std::unordered_set<GenerationCall*> calls_ ABSL_GUARDED_BY(mutex_);
};

// What the calls work with; outlives them.
struct GenerationEnvironment {
  const ServerConfig& config;
  ServerState& state;
  WorkerPool& workers;
  Dispatcher& dispatcher;
  GenerationRegistry& registry;
  RpcObserver* observer;  // may be null
};

// Thread-safe. Lives until gRPC's OnDone and the last post to the dispatcher are through.
class GenerationCall : public Dispatcher::Task, public std::enable_shared_from_this<GenerationCall> {
 public:
  // Ends the call with `status`: before its request is submitted, or by aborting it in the engine. Idempotent.
  void AbortWith(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

 protected:
  // `context` is gRPC's; it lives until Finish.
  GenerationCall(const GenerationEnvironment& environment, grpc::CallbackServerContext* context,
                 CallGate::Ticket ticket);
  ~GenerationCall() override = default;

  // Keeps the call alive until Release, and has it admitted. Then OnAdmitted or OnRefused is called, once, on a worker.
  void Start();
  // For OnDone: drops what keeps the call alive. It may be gone when this returns.
  void Release();
  // For OnCancel: the caller hung up, or its deadline passed.
  void HandleCancel();

  virtual void OnAdmitted() = 0;
  virtual void OnRefused(const absl::Status& status) = 0;

  // What AbortWith was first called with; Cancelled when it was not.
  absl::Status abort_status() ABSL_LOCKS_EXCLUDED(mutex_);

  // Notes how the call ends, for observer and log. Before Finish.
  void NoteEnd(const absl::Status& status);

  struct Admission {
    Engine* engine = nullptr;
    std::shared_ptr<const Request> request;
    std::shared_ptr<GenerationStream> stream;
    AnswerOptions answer;
    std::vector<v1::Warning> warnings;
    absl::Time create_time;
    absl::Duration tokenize_time;
    const Tokenizer* tokenizer = nullptr;
  };

  const GenerationEnvironment& environment_;
  grpc::CallbackServerContext* const context_;
  // Written on the worker before OnAdmitted, read-only afterwards.
  Admission admission_;
  int32_t num_prompt_tokens_ = 0, num_output_tokens_ = 0;  // for the log; by whoever takes the events

 private:
  void Admit(HeldRequest held);
  absl::Status TryAdmit(HeldRequest held);
  absl::StatusOr<ConvertedRequest> Convert(const v1::GenerateRequest& request, const RequestLimits& limits);

  // Whether a call that ends now ends by its deadline.
  bool IsAtDeadline() const;

  const absl::Time start_, deadline_;
  std::string metadata_request_id_;
  std::shared_ptr<GenerationCall> self_;

  absl::Mutex mutex_;
  CallGate::Ticket ticket_ ABSL_GUARDED_BY(mutex_);
  bool is_submitted_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> abort_status_ ABSL_GUARDED_BY(mutex_);
  std::string wanted_id_ ABSL_GUARDED_BY(mutex_), user_ ABSL_GUARDED_BY(mutex_);  // the caller's own, for the log
};

}  // namespace expertd
