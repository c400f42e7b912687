// Numbers that leave the engine as values. The engine reports to a StatsSink; metrics/ turns them into Prometheus
// series, tests record them, tools print them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/request/sequence.h"

namespace expertd {

enum class StepPhase { kPrefill, kDecode, kMixed };

// After each step, and once when the engine falls idle.
struct StepStats {
  absl::Time end_time;
  absl::Duration duration;                  // zero for the idle report
  StepPhase phase = StepPhase::kDecode;
  int32_t num_tokens = 0;                   // rows computed
  int32_t num_sequences = 0;
  int32_t num_sampled_tokens = 0;
  double experts_per_layer = 0.0;           // distinct experts that a sparse layer used, mean; 0: there is none
  // State after the step.
  int32_t num_running = 0;
  int32_t num_waiting = 0;
  int64_t num_waiting_tokens = 0;
  absl::Duration oldest_waiting;            // zero when none waits
  // Every block is one of: empty, held by a sequence, or free with reusable content.
  int32_t blocks_free = 0, blocks_used = 0, blocks_cached = 0;
  int64_t preemptions_total = 0;
  int64_t prefix_queried_tokens_total = 0, prefix_hit_tokens_total = 0;
  int64_t recomputed_tokens_total = 0;
};

// Once per candidate that was accepted, when it ends.
struct SequenceStats {
  FinishReason reason = FinishReason::kNone;
  absl::StatusCode code = absl::StatusCode::kOk;   // how its request ended, for kCancelled and kError
  int32_t num_prompt_tokens = 0;                   // counted for candidate 0 only, so that sums count a prompt once
  int32_t num_cached_tokens = 0;
  int32_t num_output_tokens = 0;
  absl::Duration queue_time;
  absl::Duration prefill_time;
  absl::Duration time_to_first_token;              // from arrival; zero when no token came
  absl::Duration decode_time;                      // first token to last
  absl::Duration total_time;
  int32_t num_preemptions = 0;
};

// Implementations are thread-safe: the engine thread and RPC threads report at once. Calls are quick and never block.
class StatsSink {
 public:
  virtual ~StatsSink() = default;
  virtual void OnStep(const StepStats& stats) = 0;
  virtual void OnSequenceFinished(const SequenceStats& stats) = 0;
  // One gap between two tokens of a sequence.
  virtual void OnInterTokenGap(absl::Duration gap) = 0;
  // A request that the engine refused: "queue_full", "queue_tokens_full", "deadline_unmeetable", "queue_timeout" or
  // "draining".
  virtual void OnRejected(const std::string& reason) = 0;
  // Time a request spent in a named stage outside the steps: "template" (conversations), "tokenize" (all but token
  // ids), "detokenize" (once, at its end).
  virtual void OnStage(const char* stage, absl::Duration time) = 0;
};

}  // namespace expertd
