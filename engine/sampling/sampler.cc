#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "engine/sampling/random.h"
#include "engine/sampling/row_math.h"

namespace expertd {
namespace {

// vLLM's threshold: below it a temperature means greedy.
constexpr float kMinTemperature = 1e-5f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One of the infinite logits, each as likely as the others.
int32_t DrawInfinite(std::span<const float> logits, uint64_t random_bits) {
  const auto count = static_cast<uint64_t>(std::count(logits.begin(), logits.end(), kInfinity));
  uint64_t skip = random_bits % count;
  for (size_t i = 0;; ++i) {
    if (logits[i] == kInfinity && skip-- == 0) return static_cast<int32_t>(i);
  }
}

int32_t ChooseToken(std::span<const float> logits, float max, const Sequence& sequence, SamplerScratch& scratch) {
  const SamplingParams& params = sequence.sampling;
  // The negated comparison sends NaN to the greedy side too.
  if (!(params.temperature >= kMinTemperature)) return FirstMaximum(logits, scratch.block_max, max);
  const uint64_t random_bits = RandomBits(params.seed, sequence.tokens.size());
  if (max == kInfinity) return DrawInfinite(logits, random_bits);
  const Selection selection = SelectTokens(logits, max, params, scratch);
  return DrawToken(logits, selection, random_bits, scratch);
}

// log of the sum of exp over a row, in double.
double LogSumExp(std::span<const float> logits, const RowSummary& row, SamplerScratch& scratch) {
  if (row.max == kInfinity || row.max == kMaskedLogit) return row.max;
  const uint64_t mass = SumMasses(*scratch.kernels, logits, scratch.block_max, {.max = row.max},
                                  std::numeric_limits<float>::lowest(), scratch.masses);
  return row.max + std::log(std::ldexp(static_cast<double>(mass), -kMassBits));
}

// Log-probabilities of one row. Where logits are infinite, they share all probability.
class RowLogprobs {
 public:
  // `row` and scratch.block_max as SummarizeRow gave them.
  RowLogprobs(std::span<const float> logits, const RowSummary& row, SamplerScratch& scratch)
      : logits_(logits), row_(row) {
    if (row_.has_nan) return;
    log_sum_exp_ = LogSumExp(logits, row_, scratch);
    if (row_.max == kInfinity) {
      infinite_logprob_ = -std::log(static_cast<double>(std::count(logits.begin(), logits.end(), kInfinity)));
    }
  }

  float Of(int32_t token) const {
    if (row_.has_nan) return std::numeric_limits<float>::quiet_NaN();
    if (token < 0 || static_cast<size_t>(token) >= logits_.size()) return kMaskedLogit;
    const float logit = logits_[token];
    if (logit == kInfinity) return static_cast<float>(infinite_logprob_);
    if (logit == kMaskedLogit) return kMaskedLogit;
    return static_cast<float>(logit - log_sum_exp_);
  }

  int32_t RankOf(int32_t token) const {
    if (row_.has_nan || token < 0 || static_cast<size_t>(token) >= logits_.size()) return 0;
    return CountBefore(logits_, token) + 1;
  }

  bool has_nan() const { return row_.has_nan; }

 private:
  std::span<const float> logits_;
  const RowSummary row_;
  double log_sum_exp_ = 0.0;
  double infinite_logprob_ = 0.0;
};

// The `n` first candidates of a row, in order. scratch.block_max as SummarizeRow left it.
std::span<const Candidate> FirstCandidates(std::span<const float> logits, int n, SamplerScratch& scratch) {
  n = std::min(n, static_cast<int>(logits.size()));
  if (n <= 0) return {};
  GatherCandidates(logits, KthLargest(logits, n, scratch), kInfinity, logits.size(), scratch);
  const auto end = scratch.candidates.begin() + n;  // more than n only where logits equal the n-th largest
  std::partial_sort(scratch.candidates.begin(), end, scratch.candidates.end(), ComesBefore);
  return std::span(scratch.candidates).first(n);
}

// ComputeLogprob of a row that was summarized already; `result` may have memory of another.
void FillLogprob(std::span<const float> logits, const RowSummary& row, int32_t token, const LogprobOptions& options,
                 SamplerScratch& scratch, TokenLogprob& result) {
  const RowLogprobs logprobs(logits, row, scratch);
  result.token = token;
  result.logprob = logprobs.Of(token);
  result.rank = logprobs.RankOf(token);
  result.top.clear();
  if (!options.token_ids.empty()) {
    result.top.reserve(options.token_ids.size());
    for (const int32_t id : options.token_ids) result.top.emplace_back(id, logprobs.Of(id));
    return;
  }
  if (logprobs.has_nan()) return;
  const std::span<const Candidate> first = FirstCandidates(logits, options.top_n, scratch);
  result.top.reserve(first.size());
  for (const Candidate& candidate : first) result.top.emplace_back(candidate.token, logprobs.Of(candidate.token));
}

}  // namespace

TokenLogprob ComputeLogprob(std::span<const float> logits, int32_t token, const LogprobOptions& options,
                            SamplerScratch& scratch) {
  TokenLogprob result;
  FillLogprob(logits, SummarizeRow(*scratch.kernels, logits, scratch.block_max), token, options, scratch, result);
  return result;
}

void SampleToken(std::span<float> logits, const Sequence& sequence, TokenHistory* history, SamplerScratch& scratch,
                 SequenceResult& result) {
  result.token = -1;
  result.no_valid_token = false;
  result.has_logprob = false;
  RowSummary row = SummarizeRow(*scratch.kernels, logits, scratch.block_max);
  result.has_nan = row.has_nan;
  if (row.has_nan) return;
  // Log-probabilities are those of the raw logits, which the processors overwrite.
  const std::optional<LogprobOptions>& logprobs = sequence.sampling.logprobs;
  const bool is_processed = HasLogitsProcessors(sequence);
  if (is_processed) {
    if (logprobs.has_value()) scratch.raw_logits.assign(logits.begin(), logits.end());
    ApplyLogitsProcessors(sequence, history, logits, scratch.values);
    row = SummarizeRow(*scratch.kernels, logits, scratch.block_max);
  }
  if (row.max == kMaskedLogit) {
    result.no_valid_token = true;
    return;
  }
  result.token = ChooseToken(logits, row.max, sequence, scratch);
  if (!logprobs.has_value()) return;
  result.has_logprob = true;
  if (is_processed) row = SummarizeRow(*scratch.kernels, scratch.raw_logits, scratch.block_max);
  const std::span<const float> raw_logits = is_processed ? std::span<const float>(scratch.raw_logits) : logits;
  FillLogprob(raw_logits, row, result.token, *logprobs, scratch, result.logprob);
}

}  // namespace expertd
