// BatchRun: the requests of a file to a server, many at once, and their answers to another file.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "clients/rest_shim/http_server.h"
#include "clients/run_batch/batch_files.h"
#include "engine/base/mutex.h"

namespace expertd::batch {

struct BatchProgress {
  int64_t num_answered = 0;       // in this run
  int64_t num_refused = 0;        // of these, with an error
  int64_t num_output_tokens = 0;
  int num_running = 0;
};

struct BatchRunOptions {
  int64_t num_requests = std::numeric_limits<int64_t>::max();  // to read; what is appended meanwhile is not of them
  int concurrency = 128;                             // requests at once
  std::string authorization;                         // of all requests; may be empty
  // For so long, while none is under way or answered, requests that the server turns away (429, 503) are sent again.
  absl::Duration patience = absl::Minutes(5);
  absl::Duration first_retry_delay = absl::Seconds(1);  // where the server does not say when; doubles
};

// `handler` answers requests, as the REST shim's routes do.
class BatchRun {
 public:
  BatchRun(BatchInput input, BatchOutput output, rest::HttpHandler handler, BatchRunOptions options);

  // Blocks until every request has its answer in the output. `on_tick` is called some times a second; when it is false,
  // what runs is cancelled and Run returns Cancelled. Errors otherwise: what the files say; Unavailable when the
  // server turned requests away for longer than `patience`. Once.
  absl::Status Run(const std::function<bool(const BatchProgress&)>& on_tick);

  BatchProgress progress() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Exchange;

  struct Retry {
    absl::Time due;
    BatchRequest request;
    int num_attempts = 0;
  };

  absl::Status Feed(const std::function<bool(const BatchProgress&)>& on_tick);
  // A request that is due for another attempt, or a new one; nullopt: none now.
  absl::StatusOr<std::optional<Retry>> NextRequest() ABSL_LOCKS_EXCLUDED(mutex_);
  void Start(Retry attempt) ABSL_LOCKS_EXCLUDED(mutex_);
  // From any thread: the answer of an exchange; nullptr: none will come.
  void OnAnswer(Exchange& exchange, const rest::HttpResponse* response) ABSL_LOCKS_EXCLUDED(mutex_);
  void CancelAll() ABSL_LOCKS_EXCLUDED(mutex_);

  BatchInput input_;
  bool is_input_read_ = false;
  int64_t num_read_ = 0;
  const rest::HttpHandler handler_;
  const BatchRunOptions options_;

  mutable Mutex mutex_;
  CondVar changed_;
  BatchOutput output_ ABSL_GUARDED_BY(mutex_);
  BatchProgress progress_ ABSL_GUARDED_BY(mutex_);
  std::deque<Retry> retries_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<Exchange*> running_ ABSL_GUARDED_BY(mutex_);
  absl::Time stalled_since_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // the server has turned all away
  bool is_cancelling_ ABSL_GUARDED_BY(mutex_) = false;
  std::string last_refusal_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace expertd::batch
