// Random values for the tests of layers.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace expertd {

// Normal with a mean of zero; the same for the same seed.
inline std::vector<float> RandomNormal(int64_t count, uint32_t seed, float spread) {
  std::mt19937 bits(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(bits);
  return values;
}

}  // namespace expertd
