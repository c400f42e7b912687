// Random weights, for benchmarks of models whose own are not at hand. Their mean is zero: with any other, routers send
// all tokens to the same experts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/tensor/dtype.h"
#include "engine/tensor/panel_layout.h"

namespace expertd {

// Uniform numbers in `dtype` (kF32 or kBF16) with mean zero and standard deviation `spread`; the same for the same
// seed.
void FillRandom(uint64_t seed, DType dtype, float spread, std::span<std::byte> out);

// One panel of `packed`, all outputs, likewise: integer formats get random codes. Inputs beyond cols are not zero,
// which matters to nothing, as x is zero there.
void FillRandomPanel(uint64_t seed, float spread, const PackedWeights& packed, std::byte* panel);

}  // namespace expertd
