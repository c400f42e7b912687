// Server-sent events as OpenAI streams them: `data: JSON`, in the end `data: [DONE]`; comments keep a silent stream
// alive.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "clients/rest_shim/upstream.h"
#include "engine/base/json.h"

namespace expertd::rest {

// The stream that answers a call; several sources may send to it, each of which waits for its last event to be written,
// so that it holds no more than one of each. Thread-safe.
class SseStream : public std::enable_shared_from_this<SseStream> {
 public:
  explicit SseStream(RestCall call) : call_(std::move(call)) {}

  // The head. Once, before the first event.
  void Start();

  // `on_written` (may be null) is called when the client's side has taken the event; never when the client has gone.
  void Send(const Json& event, std::function<void()> on_written = nullptr);

  // `data: [DONE]`, behind all that was sent; what comes later is dropped.
  void End();

  // The client has gone: forgets what waits.
  void Drop();

 private:
  struct Piece {
    std::string text;
    std::function<void()> on_written;
    bool is_last = false;
  };

  void Push(Piece piece);
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnWritten();

  const RestCall call_;
  absl::Mutex mutex_;
  std::deque<Piece> pieces_ ABSL_GUARDED_BY(mutex_);  // the first is being written
  bool has_ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_dropped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace expertd::rest
