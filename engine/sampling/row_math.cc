#include "engine/sampling/row_math.h"

#include <cmath>

namespace expertd {
namespace {

int32_t CountAbove(std::span<const float> logits, float value) {
  int32_t count = 0;
  for (const float x : logits) count += x > value ? 1 : 0;
  return count;
}

int32_t CountAtLeast(std::span<const float> logits, float value) {
  int32_t count = 0;
  for (const float x : logits) count += x >= value ? 1 : 0;
  return count;
}

}  // namespace

RowSummary SummarizeRow(const Kernels& kernels, std::span<const float> logits, std::vector<float>& block_max) {
  block_max.resize((logits.size() + kLogitsBlock - 1) / kLogitsBlock);
  const float max = kernels.summarize_logits(logits.data(), static_cast<int64_t>(logits.size()), block_max.data());
  return {.max = max, .has_nan = std::isnan(max)};
}

int32_t FirstMaximum(std::span<const float> logits, std::span<const float> block_max, float max) {
  const size_t block = std::find(block_max.begin(), block_max.end(), max) - block_max.begin();
  const std::span<const float> rest = logits.subspan(block * kLogitsBlock);
  return static_cast<int32_t>(block * kLogitsBlock + (std::find(rest.begin(), rest.end(), max) - rest.begin()));
}

int32_t CountBefore(std::span<const float> logits, int32_t token) {
  const float value = logits[token];
  return CountAtLeast(logits.first(token), value) + CountAbove(logits.subspan(token), value);
}

uint64_t SumMasses(const Kernels& kernels, std::span<const float> logits, std::span<const float> block_max,
                   const LogitsScale& scale, float threshold, std::vector<uint64_t>& masses) {
  masses.resize(block_max.size());
  return kernels.sum_masses(LogitsRowOf(logits, block_max), scale, threshold, masses.data());
}

}  // namespace expertd
