// Flatten: a StepPlan to ForwardBatches, the form that models read. Used by the runner on the engine thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/forward/forward_batch.h"
#include "engine/request/step_plan.h"

namespace expertd {

// What one row of logits is for: to choose the next token of a sequence, or to report how likely a token of its prompt
// was.
struct LogitsUse {
  int32_t sequence_index = 0;  // in StepPlan::sequences
  bool samples = false;
  // When it does not sample: the token that the row's logits tell about, and its place in
  // SequenceResult::prompt_logprobs.
  int32_t prompt_token = 0;
  int32_t prompt_index = 0;
};

struct ForwardPass {
  ForwardBatch batch;
  std::vector<LogitsUse> uses;  // one for each of batch.logits_rows
};

// The passes of a step, to be computed in order: [0, num_passes) of `passes`; the others are kept for their memory.
struct FlatStep {
  std::vector<ForwardPass> passes;
  int num_passes = 0;
};

// No prompt log-probabilities are wanted.
inline constexpr int32_t kNoPromptLogprobs = INT32_MAX;

// Lays the rows of `plan` out as one pass, or more when prompt log-probabilities need more than
// `max_prompt_logits_rows` (>= 1) rows of logits: then a sequence's rows go on in the next pass, as a prompt that the
// scheduler cut into chunks would. `prompt_logprobs_from[i]`: the first position (>= 1) of the prompt of
// plan.sequences[i] whose log-probability is wanted, or kNoPromptLogprobs. Memory of `step` is reused.
void Flatten(const StepPlan& plan, std::span<const int32_t> prompt_logprobs_from, int max_prompt_logits_rows,
             FlatStep& step);

}  // namespace expertd
