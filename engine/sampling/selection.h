// Selection: which tokens of a row may be drawn (temperature, min-p, top-k, top-p), and the draw. Nothing sorts the
// row: block maxima tell where the large logits are, and only candidates that may matter are gathered.
// Pure but for the scratch; used by the sampler.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/request/sampling_params.h"
#include "engine/sampling/row_math.h"

namespace expertd {

// A token and its logit. The order of candidates: by logit, the largest first, then by id, the lowest first.
struct Candidate {
  float logit = 0.0f;
  int32_t token = 0;
};

constexpr bool ComesBefore(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// Working memory of one thread, kept so that steady steps allocate nothing. Contents mean nothing between calls.
struct SamplerScratch {
  std::vector<float> block_max;       // of each block of logits
  std::vector<float> values;          // for selecting the k-th largest; logits of the allowed ids
  std::vector<uint64_t> masses;       // of each block, or of each bucket of logits
  std::vector<float> raw_logits;      // of a row with log-probabilities
  std::vector<Candidate> candidates;
  std::vector<Candidate> bucket;      // of the candidates, those of one bucket, sorted
};

// What may be drawn of a row: every token that does not come after `last`, with probability mass / total_mass.
struct Selection {
  RowScale scale;
  Candidate last;
  uint64_t total_mass = 0;
  // Whether scratch.candidates holds every token that may be drawn (else the draw reads the row by blocks).
  bool has_candidates = false;
};

// The k-th largest logit, k in [1, logits.size()]; equal ones count each. scratch.block_max as SummarizeRow left it.
float KthLargest(std::span<const float> logits, int k, SamplerScratch& scratch);

// Appends every token whose logit is at least `threshold` to scratch.candidates, by ascending id.
void GatherCandidates(std::span<const float> logits, float threshold, SamplerScratch& scratch);

// Applies temperature (>= 1e-5), min_p, top_k and top_p of `params` to a row without NaN, whose maximum `max` is
// finite. Tokens with a logit equal to the k-th largest are all kept; top_p keeps a token while the probability of
// those before it is below top_p, so at least one. `scratch` as SummarizeRow left it; kept for DrawToken.
Selection SelectTokens(std::span<const float> logits, float max, const SamplingParams& params,
                       SamplerScratch& scratch);

// Draws by the inverse distribution function: 64 uniform bits choose a point of [0, total_mass). `scratch` as
// SelectTokens left it.
int32_t DrawToken(std::span<const float> logits, const Selection& selection, uint64_t random_bits,
                  SamplerScratch& scratch);

}  // namespace expertd
