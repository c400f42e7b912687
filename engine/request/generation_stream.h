// GenerationStream: the deltas of one request (all its candidates) from the engine to one caller, ending in exactly one
// terminal status. The engine thread pushes and never blocks: while the reader is slow, deltas of a candidate merge
// into one, so the queue is bounded by what the request may generate. The reader takes with Next or is told by a
// callback.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/request/sequence.h"
#include "engine/request/step_plan.h"

namespace expertd {

// Once, before any delta: what is known of the prompt.
struct PromptEvent {
  int32_t num_prompt_tokens = 0;
  int32_t num_cached_tokens = 0;
  std::vector<int32_t> token_ids;              // if asked
  std::string text;                            // if echo
  std::vector<TokenLogprob> logprobs;          // if asked; the first token has none
};

// A call of a tool, or a piece of one: the first piece has the id and the name, all have a part of the arguments.
struct ToolCallEvent {
  int32_t index = 0;                           // among the candidate's calls
  std::string id, name;
  std::string arguments;                       // JSON
};

// New output of one candidate.
struct DeltaEvent {
  int32_t candidate_index = 0;
  std::string text;
  std::string reasoning;                       // if split off
  std::vector<ToolCallEvent> tool_calls;       // if parsed
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprob> logprobs;
  int32_t num_tokens = 0;                      // generated since the last delta (text may lag behind tokens)
  int32_t num_merged = 0;                      // deltas merged into this one while the reader was slow

  // Nothing has come.
  bool empty() const { return num_tokens == 0 && text.empty() && reasoning.empty() && tool_calls.empty(); }
};

// Once per candidate.
struct FinishedEvent {
  int32_t candidate_index = 0;
  FinishReason reason = FinishReason::kNone;
  std::string stop_string;                     // for kStopSequence by text
  int32_t stop_token = -1;                     // for kStop, and kStopSequence by id
  int32_t num_output_tokens = 0;
  uint64_t seed = 0;
};

struct RequestTiming {
  absl::Duration queue, prefill, time_to_first_token, decode, total;
  int32_t num_preemptions = 0;
};

// Last, when the request ends well.
struct SummaryEvent {
  int32_t num_prompt_tokens = 0;
  int32_t num_cached_tokens = 0;
  int32_t num_output_tokens = 0;
  int32_t num_reasoning_tokens = 0;            // of the output, between the marks of reasoning
  RequestTiming timing;
};

// Puts `later` behind `earlier`, of the same candidate.
void MergeDelta(DeltaEvent&& later, DeltaEvent& earlier);

using StreamEvent = std::variant<PromptEvent, DeltaEvent, FinishedEvent, SummaryEvent>;

// Thread-safe: one producer (the engine thread), one consumer.
class GenerationStream {
 public:
  GenerationStream() = default;

  // Producer. Close must be called once; events after it are dropped. A non-OK status may follow any output. A delta
  // joins a waiting one of its candidate unless an event of another kind stands between them; so no more wait than
  // (candidates + 1)^2 deltas, and each candidate's output and its end come in order.
  void Push(StreamEvent event);
  void Close(absl::Status status);

  // Consumer: the next event; nullopt when none is ready (then `on_ready` will be called once), or when the stream has
  // ended and all was taken (then `ended()` is true and `status()` says how).
  std::optional<StreamEvent> TryNext();
  // Blocks until an event or the end (nullopt).
  std::optional<StreamEvent> Next();
  bool ended() const;
  absl::Status status() const;

  // Called from the producer's thread after a Push or Close that found the consumer waiting (TryNext returned nullopt
  // before the end); once for each such answer. Must be quick; may take the stream's events (TryNext), or a lock under
  // which others do; must not call SetReadyCallback. Set before the first TryNext. Setting nullptr waits for a call
  // that is under way, and none comes after it.
  void SetReadyCallback(std::function<void()> on_ready);

  // Events that wait to be taken, for metrics and tests.
  int num_pending() const;

 private:
  bool MergeIntoPending(StreamEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<StreamEvent> TakeFirst() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Wakes Next; says whether the callback is due.
  bool Wake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CallBack() ABSL_LOCKS_EXCLUDED(mutex_);

  // Of the standard library: ThreadSanitizer sees its locks, but not those of an abseil that was built without it.
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<StreamEvent> events_ ABSL_GUARDED_BY(mutex_);
  bool consumer_waits_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mutex_);

  // A lock of its own, so that the callback may take locks that the consumer holds when it calls TryNext.
  std::mutex callback_mutex_;
  std::function<void()> on_ready_ ABSL_GUARDED_BY(callback_mutex_);
};

}  // namespace expertd
