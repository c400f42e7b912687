#include "engine/tensor/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "engine/tensor/dtype.h"
#include "engine/tensor/panel_layout.h"

namespace expertd {
namespace {

// Adding and subtracting 1.5 * 2^23 rounds |value| < 2^22 to the nearest integer, ties to even, in two instructions
// that compilers turn into vectors.
constexpr float kRounder = 0x1.8p23f;
float Round(float value) { return (value + kRounder) - kRounder; }

// Weights whose reciprocal would overflow: nothing beside any other.
constexpr float kNothing = 1e-30f;

// Steps that the largest weight of a group is away from zero: 8 puts it on the last code exactly; less clips it for the
// sake of the others, more spends the last code on nobody.
constexpr float kLargestSteps[] = {8.0f, 7.7f, 7.4f, 7.0f, 6.6f, 8.4f, 8.9f};

float LargestMagnitude(std::span<const float> values) {
  float largest = 0.0f;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  return largest;
}

bool AreFinite(std::span<const float> values) {
  bool finite = true;
  for (const float value : values) finite &= std::fabs(value) <= std::numeric_limits<float>::max();
  return finite;
}

// Code minus zero point of a weight that is `steps` scales.
float Int4Level(float steps) {
  const float level = Round(steps);
  return level < -8.0f ? -8.0f : level > 7.0f ? 7.0f : level;
}

// One group, filled up with zeros, which add nothing to any sum below.
using Group = std::array<float, kGroupInputs>;

// The sum of term(value) over a group, in lanes that a compiler can hold in vectors.
template <typename Term>
float Sum(const Group& group, Term term) {
  constexpr int kLanes = 16;
  float sums[kLanes] = {};
  for (int i = 0; i < kGroupInputs; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += term(group[i + lane]);
  }
  float sum = 0.0f;
  for (const float lane : sums) sum += lane;
  return sum;
}

float SquaredError(const Group& group, float scale) {
  const float inverse = 1.0f / scale;
  return Sum(group, [=](float weight) {
    const float difference = weight - scale * Int4Level(weight * inverse);
    return difference * difference;
  });
}

// The least-squares scale for the levels that `scale` gives.
float Refined(const Group& group, float scale) {
  const float inverse = 1.0f / scale;
  const float products = Sum(group, [=](float weight) { return weight * Int4Level(weight * inverse); });
  const float squares = Sum(group, [=](float weight) {
    const float level = Int4Level(weight * inverse);
    return level * level;
  });
  return squares > 0.0f ? products / squares : scale;
}

float BestInt4Scale(const Group& group) {
  float peak = 0.0f;  // the weight of the largest magnitude, with its sign
  for (const float weight : group) {
    if (std::fabs(weight) > std::fabs(peak)) peak = weight;
  }
  if (std::fabs(peak) < kNothing) return 0.0f;
  float best_scale = 0.0f, least_error = std::numeric_limits<float>::infinity();
  for (const float steps : kLargestSteps) {
    const float scale = Refined(group, -peak / steps);
    const float error = SquaredError(group, scale);
    if (error >= least_error) continue;
    least_error = error;
    best_scale = scale;
  }
  return best_scale;
}

}  // namespace

void QuantizeInt8(std::span<const float> weights, QuantizedRow& row) {
  row.codes.assign(weights.size(), uint8_t{kInt8ZeroPoint});
  row.scale = AreFinite(weights) ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  const float largest = LargestMagnitude(weights);
  if (row.scale != 0.0f || largest < kNothing) return;
  row.scale = largest / 127.0f;
  const float inverse = 127.0f / largest;
  for (size_t k = 0; k < weights.size(); ++k) {
    row.codes[k] = static_cast<uint8_t>(static_cast<int>(Round(weights[k] * inverse)) + kInt8ZeroPoint);
  }
}

void QuantizeInt4(std::span<const float> weights, QuantizedRow& row) {
  row.codes.assign(weights.size(), uint8_t{kInt4ZeroPoint});
  row.group_scales.assign((weights.size() + kGroupInputs - 1) / kGroupInputs, uint16_t{0});
  row.zero_points.clear();
  row.scale = AreFinite(weights) ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  const float largest = LargestMagnitude(weights);
  if (row.scale != 0.0f || largest < kNothing) return;
  // A group's scale is at most 2 * |largest weight| / 6.6, so half precision of scale / 2^exponent never overflows.
  row.scale = std::ldexp(1.0f, std::ilogb(largest) - 2);
  for (size_t group = 0; group < row.group_scales.size(); ++group) {
    const size_t begin = group * kGroupInputs;
    const size_t size = std::min<size_t>(kGroupInputs, weights.size() - begin);
    Group values = {};
    std::copy_n(weights.begin() + begin, size, values.begin());
    row.group_scales[group] = FloatToHalf(BestInt4Scale(values) / row.scale);
    const float kept = HalfToFloat(row.group_scales[group]) * row.scale;
    if (kept == 0.0f) continue;
    const float inverse = 1.0f / kept;
    for (size_t i = 0; i < size; ++i) {
      row.codes[begin + i] = static_cast<uint8_t>(static_cast<int>(Int4Level(values[i] * inverse)) + kInt4ZeroPoint);
    }
  }
}

void SplitScales(std::span<const float> group_scales, QuantizedRow& row) {
  const auto is_half = [](float value) { return HalfToFloat(FloatToHalf(value)) == value; };
  const bool are_equal = std::ranges::all_of(group_scales, [&](float scale) { return scale == group_scales[0]; });
  if (are_equal) {
    row.scale = group_scales[0];
  } else if (std::ranges::all_of(group_scales, is_half)) {
    row.scale = 1.0f;
  } else {
    // The largest becomes 2^14 or more, which leaves the small ones the most room.
    constexpr int kSmallestExponent = -126;  // of a normal float
    row.scale = std::ldexp(1.0f, std::max(std::ilogb(LargestMagnitude(group_scales)) - 14, kSmallestExponent));
  }
  row.group_scales.resize(group_scales.size());
  for (size_t g = 0; g < group_scales.size(); ++g) {
    row.group_scales[g] = FloatToHalf(are_equal ? 1.0f : group_scales[g] / row.scale);
  }
}

}  // namespace expertd
