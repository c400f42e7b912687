// Scheduler: who computes how many tokens next. There is no prefill phase and no decode phase: every sequence has
// tokens known and tokens computed, and the second catches up with the first within the step's token budget and the
// block budget. Chunked prefill, prefix hits and preemption by recompute are that one rule (after vLLM's scheduler).
//
// One order of sequences decides everything: who waits behind whom, who is served first and who is preempted first.
// A sequence's place is its time of arrival, earlier by `priority_ageing` for each level of priority; equal times keep
// the order of ids. A place never changes, yet it says both what priority and what ageing ask: of two waiting
// sequences the one with the greater `priority + waited / priority_ageing` is in front, at any time. So the first of
// the order can always go on, a later one can be overtaken only by what arrives soon after it with a higher priority,
// and nothing starves.
//
// Pure: no thread, clock, model or I/O; time and capacity come in as values. Used by the engine thread only.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "engine/kv/block_pool.h"
#include "engine/kv/prefix_cache.h"
#include "engine/request/sequence.h"
#include "engine/request/step_plan.h"

namespace expertd {

struct SchedulerConfig {
  int32_t max_num_seqs = 64;                // running at once; never more than max_num_batched_tokens
  int32_t max_num_batched_tokens = 2048;    // rows of a step
  int32_t max_prefill_chunk = 0;            // rows of one sequence in a step; 0: as the budget allows
  int32_t block_size = 32;
  int32_t num_blocks = 0;
  int32_t max_model_len = 0;                // 0: as the blocks allow
  bool enable_prefix_caching = true;
  // Waiting this long is worth one level of priority. InfiniteDuration: priorities are strict. Zero: they are ignored.
  absl::Duration priority_ageing = absl::Seconds(10);
};

struct SchedulerStats {
  int32_t num_running = 0;
  int32_t num_waiting = 0;
  int64_t num_waiting_tokens = 0;
  absl::Time oldest_arrival = absl::InfiniteFuture();  // among the waiting
  int32_t num_blocks_used = 0, num_blocks_free = 0;    // together all of them
  int32_t num_blocks_cached = 0;            // of the free ones, those that are still findable
  int64_t num_preemptions = 0;              // since start, as all below
  int64_t prefix_queried_tokens = 0, prefix_hit_tokens = 0;  // once a request, at its first admission
  int64_t recomputed_tokens = 0;            // computed before, thrown away by preemption and not found in the cache
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerConfig& config);
  ~Scheduler();  // frees the blocks of the sequences that are still known
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Queues a sequence in state kWaiting, which must live until Finish or ~Scheduler. It must fit: its tokens plus one
  // within max_length() (CHECKed; the engine refuses others at the door).
  void Add(Sequence* sequence);

  // Decides the next step at time `now`. Rows go to sequences that decode, then to prompts under way, then to waiting
  // ones, which are admitted strictly in order: the first one that does not fit ends admission, so that a large one is
  // not overtaken for ever. When blocks run out, the last of the running ones is preempted: it gives up its blocks,
  // keeps its tokens and waits at its old place. A sequence is admitted when all its known tokens will fit beside what
  // the running ones still need, with a small reserve for their growth.
  //
  // `sequences` stands in order, each once, each with at least one row; never empty while HasWork(), provided
  // that sequences with a finish_reason were finished before.
  // Work: O(running + admitted * (log waiting + blocks of a prompt)). `reused` lends its memory and nothing else.
  StepPlan Plan(absl::Time now, StepPlan reused = {});

  // Books the result of a plan: advances computed counts, appends sampled tokens, publishes full blocks to the prefix
  // cache, and sets finish_reason where a token, a length or an empty mask ends a sequence (kError where a token was
  // asked for and none came). Such sequences stay in kRunning, without being planned, until Finish, so that their text
  // can be written first. Sequences that were finished since the plan are passed over.
  void Commit(const StepPlan& plan, const StepResult& result);

  // Ends a sequence in any state: frees its blocks and forgets it. Within one step of a cancellation this is called.
  // Nothing happens to one that has ended already.
  void Finish(Sequence* sequence, FinishReason reason);

  // Sequences whose deadline, queue deadline or soft deadline has passed at `now`, earliest first; the caller ends each
  // by Finish. O(1) when there are none.
  std::vector<Sequence*> Expired(absl::Time now) const;

  // Whether a sequence waits or has tokens to compute.
  bool HasWork() const { return !waiting_.empty() || num_unfinished_running_ > 0; }
  SchedulerStats stats() const;

  // Most tokens, prompt and output, that a sequence can have: max_model_len, or what all blocks hold.
  int32_t max_length() const { return max_length_; }

 private:
  // A place in the order; smaller is in front.
  struct Rank {
    absl::Time aged_arrival;
    int32_t negative_priority = 0;
    uint64_t id = 0;

    friend std::strong_ordering operator<=>(const Rank&, const Rank&) = default;
    friend bool operator==(const Rank&, const Rank&) = default;
  };
  // What the scheduler remembers of a sequence.
  struct Entry {
    Sequence* sequence = nullptr;
    Rank rank;
    absl::Time next_deadline;           // as filed in by_deadline_
    int32_t num_planned_rows = 0;       // in the plan being made
    int32_t num_published_blocks = 0;
    int32_t num_lost_tokens = 0;        // computed when it was preempted last
    std::vector<BlockKey> keys;
  };
  struct InOrder {
    bool operator()(const Entry* a, const Entry* b) const { return a->rank < b->rank; }
  };
  struct ByDeadline {
    bool operator()(const Entry* a, const Entry* b) const {
      return a->next_deadline != b->next_deadline ? a->next_deadline < b->next_deadline
                                                  : a->sequence->id < b->sequence->id;
    }
  };

  Rank RankOf(const Sequence& sequence) const;
  int32_t NumBlocks(int32_t num_tokens) const;
  int32_t NumRowsWanted(const Sequence& sequence, int32_t budget) const;
  bool ReadsPrefixCache(const Sequence& sequence) const;
  PrefixView ViewOf(Entry& entry) const;

  void EnterWaiting(Entry* entry);
  void LeaveWaiting(Entry* entry);
  void FileDeadline(Entry* entry);
  void UnfileDeadline(Entry* entry);

  // Gives rows to the running sequences; returns what is left of the budget.
  int32_t ShareBudget();
  // Gets them their blocks, preempting from the end of the order.
  void ReserveBlocks(StepPlan* plan);
  void AdmitWaiting(absl::Time now, int32_t budget);
  bool FitsBesideRunning(Entry& entry, int32_t num_reserved_blocks) const;
  void StartRunning(Entry* entry, absl::Time now);
  bool GrowBlocks(Sequence& sequence, int32_t num_tokens);
  void Preempt(size_t running_index, StepPlan* plan);

  void PublishBlocks(Entry& entry);
  FinishReason AppendToken(Sequence& sequence, const SequenceResult& result) const;

  const SchedulerConfig config_;
  const int32_t max_running_;
  const int32_t max_length_;
  BlockPool pool_;
  PrefixCache prefix_cache_;
  absl::flat_hash_map<const Sequence*, std::unique_ptr<Entry>> entries_;
  std::set<Entry*, InOrder> waiting_;
  std::multiset<absl::Time> waiting_arrivals_;
  std::set<Entry*, ByDeadline> by_deadline_;  // those that have a deadline
  std::vector<Entry*> running_;               // in order
  int32_t num_unfinished_running_ = 0;        // of them, those without a finish_reason
  int64_t num_waiting_tokens_ = 0;
  int64_t num_preemptions_ = 0;
  int64_t prefix_queried_tokens_ = 0, prefix_hit_tokens_ = 0;
  int64_t recomputed_tokens_ = 0;
};

}  // namespace expertd
