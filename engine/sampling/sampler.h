// Sampler: one row of logits to one token. Used by the runner, which calls it for many rows at once.
//
// Steps, in vLLM's order (vllm/v1/sample/sampler.py; processors in logits_processor.h):
//   1. log-probabilities, if asked, of the raw logits (vLLM's default, "raw_logprobs");
//   2. allowed ids, bad words, min_tokens, logit bias, penalties (repetition, then frequency and presence);
//   3. temperature below 1e-5: the largest logit, the lowest id on ties;
//   4. else temperature; min-p; top-k (all tokens equal to the k-th are kept); top-p on the renormalized rest (a token
//      is kept while the probability of those before it, most likely first and lowest id first on ties, is below p);
//   5. a draw by the inverse distribution function from RandomBits(seed, position of the new token).
// Hugging Face's generate() differs in two places: it applies penalties first, and min-p after top-p.
//
// Same bits: a result depends only on the row, the parameters and the sequence's own tokens. Probabilities are held as
// integers (multiples of 2^-40 of the most likely token's), whose sums do not depend on the order of addition; so
// selection by parts gives exactly what sorting the row would, and a token of less than 2^-41 times the most likely
// one's probability is never drawn.
#pragma once

#include <cstdint>
#include <span>

#include "engine/request/sampling_params.h"
#include "engine/request/sequence.h"
#include "engine/request/step_plan.h"
#include "engine/sampling/logits_processor.h"
#include "engine/sampling/selection.h"

namespace expertd {

// Pure functions of their arguments; concurrent calls with different rows, states and scratch are safe.

// Chooses the token that follows `sequence.tokens`. `logits`: [vocab_size], of the sequence's last token; overwritten.
// `history` is null unless UsesPenalties(sequence.sampling); it is brought up to date with sequence.tokens. Sets all of
// `result` but prompt_logprobs. token is -1 when there is none: with has_nan (a NaN among the logits: the model's
// arithmetic went wrong) or no_valid_token (all logits are minus infinity after masking). Logits of plus infinity share
// all probability evenly. Ids of the request outside the vocabulary are ignored.
void SampleToken(std::span<float> logits, const Sequence& sequence, TokenHistory* history, SamplerScratch& scratch,
                 SequenceResult& result);

// Log-probability and rank of `token` under `logits` ([vocab_size], raw), with those that `options` asks for:
// options.token_ids in their order, else the options.top_n most likely. log-softmax in double precision, rounded once.
// A NaN among the logits makes every value NaN. Ids outside the vocabulary get minus infinity, rank 0.
TokenLogprob ComputeLogprob(std::span<const float> logits, int32_t token, const LogprobOptions& options,
                            SamplerScratch& scratch);

}  // namespace expertd
