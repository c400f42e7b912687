// Quantization of weights to the codes and scales of the int8 and int4 formats: round to nearest, no calibration data.
// Used by WeightMatrixBuilder; the inverse is in panel_layout.h.
#pragma once

#include <cstdint>
#include <span>

namespace expertd {

// codes[k] = 128 + round(weights[k] / scale), scale = max |weights| / 127; 0 for weights that are all zero. Weights
// that are not finite yield a scale of NaN. Sizes are equal.
float QuantizeInt8(std::span<const float> weights, std::span<uint8_t> codes);

// One output of an int4 matrix: codes of 0..15 around kInt4ZeroPoint in groups of kGroupInputs, the last of which may
// be short. Weight k is near scale * HalfToFloat(group_scales[k / 128]) * (codes[k] - 8); scale is a power of two. Of
// several scales for each group, the one with the least squared error is taken; it may be negative, as codes reach one
// step further down than up. Sizes: codes as weights, one group_scale per group. Returns the output's scale; NaN when a
// weight is not finite.
float QuantizeInt4(std::span<const float> weights, std::span<uint8_t> codes, std::span<uint16_t> group_scales);

}  // namespace expertd
