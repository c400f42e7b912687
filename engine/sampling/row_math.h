// A row of logits as the sampler sees it: the arithmetic is the kernels', this is what ties their results together.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "engine/kernels/kernels.h"

namespace expertd {

inline constexpr float kMaskedLogit = -std::numeric_limits<float>::infinity();

struct RowSummary {
  float max = kMaskedLogit;  // means nothing when has_nan
  bool has_nan = false;
};

// Reads the row once. block_max is resized to one maximum for each block of kLogitsBlock, the last of which may be
// shorter.
RowSummary SummarizeRow(const Kernels& kernels, std::span<const float> logits, std::vector<float>& block_max);

// The row for the kernels; block_max as SummarizeRow left it.
inline LogitsRow LogitsRowOf(std::span<const float> logits, std::span<const float> block_max) {
  return {logits.data(), static_cast<int64_t>(logits.size()), block_max.data()};
}

// The lowest index whose logit equals `max`, the row's maximum. block_max as SummarizeRow left it.
int32_t FirstMaximum(std::span<const float> logits, std::span<const float> block_max, float max);

// Tokens that come before `token` in the order of candidates: by logit, the largest first, then by id.
int32_t CountBefore(std::span<const float> logits, int32_t token);

// Mass of all logits >= threshold. `masses` is resized to the mass of each block.
uint64_t SumMasses(const Kernels& kernels, std::span<const float> logits, std::span<const float> block_max,
                   const LogitsScale& scale, float threshold, std::vector<uint64_t>& masses);

}  // namespace expertd
