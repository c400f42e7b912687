// Selection: which tokens of a row may be drawn (temperature, min-p, top-k, top-p), and the draw. Nothing sorts the
// row: block maxima tell where the large logits are, only candidates that may matter are gathered, and of many of them
// the mass is added up by buckets of logits, of which one is looked into.
// Pure but for the scratch; used by the sampler.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kernels/kernels.h"
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

// What one thread samples with: the kernels, and working memory whose contents mean nothing between calls.
struct SamplerScratch {
  // Rows of up to `vocab_size` logits allocate nothing; longer ones make the memory grow.
  explicit SamplerScratch(const Kernels& kernels, size_t vocab_size = 0);

  const Kernels* kernels;
  std::vector<float> block_max;       // of each block of logits
  std::vector<float> values;          // for selecting the k-th largest; logits of the allowed ids
  std::vector<uint64_t> masses;       // of each block, or of each bucket of logits
  std::vector<float> raw_logits;      // of a row with log-probabilities
  std::vector<int32_t> tokens;        // found in a range of logits
  std::vector<Candidate> candidates;  // those that may be drawn, or those of one bucket; sorted
};

// How the draw finds its token.
enum class DrawIndex {
  kBlocks,   // scratch.masses holds the mass of each block
  kSorted,   // scratch.candidates holds all that may be drawn, in order
  kBuckets,  // scratch.masses holds the mass of each bucket
};

// What may be drawn of a row: every token that does not come after `last`, with probability mass / total_mass.
struct Selection {
  LogitsScale scale;
  Candidate last;
  uint64_t total_mass = 0;
  DrawIndex index = DrawIndex::kBlocks;
  // kBuckets: logits below the threshold are in none; the others in order, so many to a unit of the exponent.
  float threshold = 0.0f;
  float buckets_per_exponent = 0.0f;
};

// The k-th largest logit, k in [1, logits.size()]; equal ones count each. scratch.block_max as SummarizeRow left it.
float KthLargest(std::span<const float> logits, int k, SamplerScratch& scratch);

// Puts the first `limit` tokens whose logit is in [low, high] into scratch.candidates, by ascending id.
void GatherCandidates(std::span<const float> logits, float low, float high, size_t limit, SamplerScratch& scratch);

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
