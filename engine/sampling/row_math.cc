#include "engine/sampling/row_math.h"

#include <cstring>

namespace expertd {
namespace {

constexpr int kLanes = sizeof(Floats) / sizeof(float);

Floats Load(const float* x) {
  Floats value;
  std::memcpy(&value, x, sizeof(value));
  return value;
}

std::span<const float> Block(std::span<const float> logits, size_t block) {
  const size_t begin = block * kLogitsBlock;
  return logits.subspan(begin, std::min<size_t>(kLogitsBlock, logits.size() - begin));
}

// A full block, by vectors with two independent maxima: a maximum waits for the one before.
RowSummary SummarizeFullBlock(const float* x) {
  Floats max0 = Load(x), max1 = Load(x + kLanes);
  Words nan = std::bit_cast<Words>(max0 != max0) | std::bit_cast<Words>(max1 != max1);
  for (int i = 2 * kLanes; i < kLogitsBlock; i += 2 * kLanes) {
    const Floats value0 = Load(x + i), value1 = Load(x + i + kLanes);
    nan |= std::bit_cast<Words>(value0 != value0) | std::bit_cast<Words>(value1 != value1);
    max0 = value0 > max0 ? value0 : max0;
    max1 = value1 > max1 ? value1 : max1;
  }
  RowSummary summary;
  for (int lane = 0; lane < kLanes; ++lane) {
    summary.max = std::max({summary.max, max0[lane], max1[lane]});
    summary.has_nan |= nan[lane] != 0;
  }
  return summary;
}

RowSummary SummarizeShortBlock(std::span<const float> block) {
  RowSummary summary;
  for (const float value : block) {
    summary.max = value > summary.max ? value : summary.max;
    summary.has_nan |= value != value;
  }
  return summary;
}

uint64_t FullBlockMass(const float* x, RowScale scale, float threshold) {
  float values[kLogitsBlock];
  for (int i = 0; i < kLogitsBlock; i += kLanes) {
    const Floats logits = Load(x + i);
    const Floats value = ExpOf((logits - scale.max) * scale.inverse_temperature);
    const Floats kept = logits >= threshold ? value : Floats{};
    std::memcpy(values + i, &kept, sizeof(kept));
  }
  uint64_t mass = 0;
  for (const float value : values) mass += ToMass(value);
  return mass;
}

uint64_t ShortBlockMass(std::span<const float> block, RowScale scale, float threshold) {
  uint64_t mass = 0;
  for (const float logit : block) mass += logit >= threshold ? MassOf(scale.Exponent(logit)) : 0;
  return mass;
}

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

RowSummary SummarizeRow(std::span<const float> logits, std::vector<float>& block_max) {
  const size_t num_blocks = (logits.size() + kLogitsBlock - 1) / kLogitsBlock;
  block_max.resize(num_blocks);
  RowSummary row;
  for (size_t b = 0; b < num_blocks; ++b) {
    const std::span<const float> block = Block(logits, b);
    const RowSummary summary =
        block.size() == kLogitsBlock ? SummarizeFullBlock(block.data()) : SummarizeShortBlock(block);
    block_max[b] = summary.max;
    row.max = summary.max > row.max ? summary.max : row.max;
    row.has_nan |= summary.has_nan;
  }
  return row;
}

void ExpOfBlock(const float* exponents, float* values) {
  for (int i = 0; i < kLogitsBlock; i += kLanes) {
    const Floats value = ExpOf(Load(exponents + i));
    std::memcpy(values + i, &value, sizeof(value));
  }
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

uint64_t SumMasses(std::span<const float> logits, std::span<const float> block_max, const RowScale& scale,
                   float threshold, std::vector<uint64_t>& masses) {
  masses.resize(block_max.size());
  uint64_t total = 0;
  for (size_t b = 0; b < block_max.size(); ++b) {
    masses[b] = 0;
    if (!(block_max[b] >= threshold)) continue;
    const std::span<const float> block = Block(logits, b);
    masses[b] = block.size() == kLogitsBlock ? FullBlockMass(block.data(), scale, threshold)
                                             : ShortBlockMass(block, scale, threshold);
    total += masses[b];
  }
  return total;
}

}  // namespace expertd
