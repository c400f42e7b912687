// Scheduler: who computes how many tokens next. There is no prefill phase and no decode phase: every sequence has tokens
// known and tokens computed, and the second catches up with the first within the step's token budget and the block
// budget. Chunked prefill, prefix hits and preemption by recompute are that one rule.
//
// Pure: no thread, clock, model or I/O; time and capacity come in as values. Used by the engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/kv/block_pool.h"
#include "engine/kv/prefix_cache.h"
#include "engine/request/sequence.h"
#include "engine/request/step_plan.h"

namespace expertd {

struct SchedulerConfig {
  int32_t max_num_seqs = 64;                // running at once
  int32_t max_num_batched_tokens = 2048;    // rows of a step
  int32_t max_prefill_chunk = 0;            // rows of one sequence in a step; 0: as the budget allows
  int32_t block_size = 32;
  int32_t num_blocks = 0;
  int32_t max_model_len = 0;
  bool enable_prefix_caching = true;
  absl::Duration priority_ageing = absl::Seconds(10);  // waiting this long is worth one level of priority
};

struct SchedulerStats {
  int32_t num_running = 0;
  int32_t num_waiting = 0;
  int64_t num_waiting_tokens = 0;
  absl::Time oldest_arrival = absl::InfiniteFuture();  // among the waiting
  int32_t num_blocks_used = 0, num_blocks_free = 0, num_blocks_cached = 0;  // cached: free but still findable
  int64_t num_preemptions = 0;              // since start
  int64_t prefix_queried_tokens = 0, prefix_hit_tokens = 0;
  int64_t recomputed_tokens = 0;            // computed before and thrown away by preemption
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerConfig& config);

  // Queues a sequence in state kWaiting. It must fit: prompt plus one token within max_model_len and the block pool
  // (CHECKed; the engine refuses others at the door).
  void Add(Sequence* sequence);

  // Decides the next step at time `now`, in this order: running sequences go on, oldest first, preempting the youngest
  // of lowest priority when blocks run out; then waiting ones are admitted by aged priority while budgets last.
  StepPlan Plan(absl::Time now);

  // Books the result of a plan: advances computed counts, appends sampled tokens, publishes full blocks to the prefix
  // cache, and sets finish_reason where a token, a length or an empty mask ends a sequence. Such sequences stay in
  // kRunning until Finish, so that their text can be written first.
  void Commit(const StepPlan& plan, const StepResult& result);

  // Ends a sequence in any state: frees its blocks and forgets it. Within one step of a cancellation this is called.
  void Finish(Sequence* sequence, FinishReason reason);

  // Sequences whose deadline, queue deadline or soft deadline has passed at `now`; the caller ends each by Finish.
  std::vector<Sequence*> Expired(absl::Time now) const;

  bool HasWork() const;
  SchedulerStats stats() const;
};

}  // namespace expertd
