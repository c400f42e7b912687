// ModelRunner: one step from plan to result - flatten, forward pass, sampling. Owned and called by the engine thread;
// the pool's threads help inside a call.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/forward/forward_context.h"
#include "engine/kv/kv_cache.h"
#include "engine/models/model.h"
#include "engine/platform/memory.h"
#include "engine/platform/thread_pool.h"
#include "engine/request/step_plan.h"
#include "engine/runner/flatten.h"
#include "engine/sampling/sampler.h"

namespace expertd {

struct ModelRunnerOptions {
  // Logits held at a time for prompt log-probabilities. A step that needs more rows is computed in several forward
  // passes (same bits, more reads of the weights); at least one row is computed at a time.
  int64_t max_prompt_logits_bytes = int64_t{32} << 20;
};

// Not thread-safe: owned by the engine thread.
class ModelRunner {
 public:
  // All that is passed by reference outlives the runner.
  ModelRunner(const Model& model, KvCache& kv_cache, const Kernels& kernels, ThreadPool& pool,
              ModelRunnerOptions options = {});

  // Computes a plan that is not empty, and chooses the next token of each sequence that samples; result i is of
  // plan.sequences[i]. Prompt log-probabilities: each position of the prompt from max(1, prompt_logprobs->start) on is
  // reported once in the life of a sequence (not again when preemption has it computed anew), in ascending order, in
  // the step that computes the position before it. The first token has none.
  // A sequence without needs_prompt_logits reports none. Changes no Sequence. `reused` lends its memory and nothing
  // else, so that a step like the one before allocates nothing. Errors: ResourceExhausted when there is no memory for
  // the logits; KV of the step may then be half written, and the sequences must be ended or computed again.
  absl::StatusOr<StepResult> Run(const StepPlan& plan, StepResult reused = {});

  // Drops what is kept between steps for a sequence (counts for penalties, prompt positions reported). To be called
  // when it has finished; unknown ids are ignored.
  void Forget(uint64_t sequence_id);

 private:
  // Of a sequence with penalties or prompt log-probabilities.
  struct SequenceState {
    TokenHistory history;
    int32_t next_prompt_position = 1;  // the first prompt token whose log-probability was not yet reported
  };

  void FindStates(const StepPlan& plan);
  absl::Status RunPass(const StepPlan& plan, const ForwardPass& pass, StepResult& result);
  void ProcessRow(const StepPlan& plan, const LogitsUse& use, std::span<float> logits, SamplerScratch& scratch,
                  StepResult& result) const;
  void BookPromptPositions(const StepPlan& plan);

  const Model& model_;
  KvCache& kv_cache_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  const int64_t vocab_size_;
  const int max_prompt_logits_rows_;

  absl::flat_hash_map<uint64_t, std::unique_ptr<SequenceState>> states_;
  std::vector<SequenceState*> step_states_;    // of the plan's sequences; null where none is kept
  std::vector<int32_t> prompt_logprobs_from_;  // of the plan's sequences
  FlatStep flat_;
  ScratchArena arena_;
  AlignedBuffer logits_;                       // of a pass: [logits_rows, vocab_size]
  std::vector<SamplerScratch> scratch_;        // of each thread
};

}  // namespace expertd
