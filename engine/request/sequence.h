// Sequence: one generation in progress. Its tokens catch up from computed to known; the scheduler alone changes it, on
// the engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/kv/block_pool.h"
#include "engine/request/request.h"
#include "engine/request/sampling_params.h"
#include "engine/structured/constraint.h"

namespace expertd {

enum class SequenceState { kWaiting, kRunning, kFinished };

enum class FinishReason {
  kNone,
  kStop,           // an EOS token of the model, or the constraint allows no further token
  kStopSequence,   // a stop string or stop id of the caller
  kToolCalls,      // as kStop or kStopSequence; the output has calls of tools
  kMaxTokens,
  kContextLength,
  kTimeLimit,
  kNoValidToken,   // every token is masked
  kGrammarDeadEnd, // the constraint allows no token, and no end
  kCancelled,
  kError,
};

// Not thread-safe: owned by the engine thread.
struct Sequence {
  uint64_t id = 0;                          // unique in the process, in order of arrival
  std::shared_ptr<const Request> request;
  int32_t candidate_index = 0;              // 0..n-1
  SamplingParams sampling;                  // resolved; seed differs by candidate
  StopConditions stop;                      // resolved
  std::vector<int32_t> eos_token_ids;
  std::optional<ConstraintCursor> constraint;  // which outputs there may be; nullopt: any

  std::vector<int32_t> tokens;              // prompt, then output
  int32_t num_prompt_tokens = 0;
  int32_t num_computed_tokens = 0;          // of `tokens`, those whose keys and values are in the cache
  int32_t num_cached_tokens = 0;            // of the prompt, those that came from the prefix cache at first admission
  std::vector<BlockRef> blocks;             // block i holds positions [i * block_size, (i + 1) * block_size)
  std::string cache_salt;                   // prefix-cache identity beside the tokens
  bool bypass_prefix_cache = false;
  // Prompt log-probabilities need every prompt row computed: such a sequence takes no prefix hits.
  bool needs_prompt_logits = false;

  SequenceState state = SequenceState::kWaiting;
  FinishReason finish_reason = FinishReason::kNone;
  int32_t stop_token = -1;                  // the token that ended it, for kStop by EOS and kStopSequence by id

  int32_t priority = 0;
  absl::Time arrival_time;
  absl::Time deadline = absl::InfiniteFuture();        // hard: ends with DeadlineExceeded
  absl::Time queue_deadline = absl::InfiniteFuture();  // applies until first admission
  absl::Time soft_deadline = absl::InfiniteFuture();   // time_limit: finishes with what exists
  absl::Time first_scheduled_time = absl::InfiniteFuture();
  int32_t num_preemptions = 0;

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_output_tokens() const { return num_tokens() - num_prompt_tokens; }
};

}  // namespace expertd
