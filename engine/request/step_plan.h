// StepPlan and StepResult: what one engine step computes and what came out. Plain values made by the scheduler and the
// runner; both live on the engine thread.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/request/sequence.h"

namespace expertd {

struct PlannedSequence {
  Sequence* sequence = nullptr;
  int32_t num_tokens = 0;    // rows: tokens [num_computed_tokens, num_computed_tokens + num_tokens)
  bool samples = false;      // the last row's logits choose the next token
};

struct StepPlan {
  std::vector<PlannedSequence> sequences;
  int32_t num_tokens = 0;               // sum of rows
  std::vector<Sequence*> preempted;     // sent back to the queue by this plan, their blocks freed
  bool empty() const { return sequences.empty(); }
};

// One token's log-probability, and those asked for beside it (most likely first, or in the order of the ids asked).
struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0.0f;
  int32_t rank = 0;          // 1 for the most likely token
  std::vector<std::pair<int32_t, float>> top;
};

struct SequenceResult {
  int32_t token = -1;                         // sampled token; -1 when none was asked for or none is allowed
  bool no_valid_token = false;                // every token was masked
  bool has_nan = false;                       // the logits held a NaN: no token; to be ended with kError
  bool has_logprob = false;
  TokenLogprob logprob;                       // when has_logprob
  std::vector<TokenLogprob> prompt_logprobs;  // for the prompt rows of this step, if asked
};

struct StepResult {
  std::vector<SequenceResult> sequences;      // one for each of StepPlan::sequences, in order
  double experts_per_layer = 0.0;             // distinct experts that a sparse layer used, mean; 0: there is none
};

}  // namespace expertd
