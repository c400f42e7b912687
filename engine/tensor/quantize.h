// Quantization of weights to the codes and scales of the int8 and int4 formats: round to nearest, no calibration data.
// Used by WeightMatrixBuilder; panel_layout.h says what codes and scales stand for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace expertd {

// One output of an int8 or int4 matrix, as panel_layout.h has it. The groups of int4 have kGroupInputs inputs; the last
// may be short.
struct QuantizedRow {
  float scale = 0.0f;
  std::vector<uint8_t> codes;          // one per input: 0..255 or 0..15
  std::vector<uint16_t> group_scales;  // int4: one f16 per group
  std::vector<uint8_t> zero_points;    // int4: one per group; none when every one is kInt4ZeroPoint
};

// codes[k] = 128 + round(weights[k] / scale), scale = max |weights| / 127; 0 for weights that are all zero. Weights
// that are not finite yield a scale of NaN.
void QuantizeInt8(std::span<const float> weights, QuantizedRow& row);

// Codes around kInt4ZeroPoint; scale is a power of two. Of several scales for each group, the one with the least
// squared error is taken; it may be negative, as codes reach one step further down than up. Weights that are not finite
// yield a scale of NaN.
void QuantizeInt4(std::span<const float> weights, QuantizedRow& row);

// Splits the scales of an int4 output, group_scales[g], into row.scale and row.group_scales without loss where half
// precision has room: scales that are all equal or are halves themselves, and any of at most 11 significant bits that
// lie within 2^28 of the largest. Others are rounded to nearest. All must be finite.
void SplitScales(std::span<const float> group_scales, QuantizedRow& row);

}  // namespace expertd
