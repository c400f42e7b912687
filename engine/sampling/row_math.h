// Arithmetic over one row of logits, in blocks of 64: maxima, probabilities as integers, counts. Plain loops that the
// compiler turns into vector code; every function gives the same bits however it is compiled, because maxima and
// integer sums do not depend on order. Pure; used by the sampler.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

namespace expertd {

// Small enough that the maximum of each block says much about where the large logits are, large enough that the maxima
// of a vocabulary of 152k stay in the first-level cache.
inline constexpr int kLogitsBlock = 64;

inline constexpr float kMaskedLogit = -std::numeric_limits<float>::infinity();

struct RowSummary {
  float max = kMaskedLogit;  // means nothing when has_nan
  bool has_nan = false;
};

// Reads the row once. block_max is resized to one maximum for each block, the last of which may be shorter.
RowSummary SummarizeRow(std::span<const float> logits, std::vector<float>& block_max);

// The lowest index whose logit equals `max`, the row's maximum. block_max as SummarizeRow left it.
int32_t FirstMaximum(std::span<const float> logits, std::span<const float> block_max, float max);

// Tokens that come before `token` in the order of candidates: by logit, the largest first, then by id.
int32_t CountBefore(std::span<const float> logits, int32_t token);

// How logits become probabilities: p = exp((logit - max) * inverse_temperature), relative to the most likely token's.
struct RowScale {
  float max = 0.0f;                  // finite
  float inverse_temperature = 1.0f;  // > 0

  float Exponent(float logit) const { return (logit - max) * inverse_temperature; }
};

// One unit of mass is 2^-40 of the most likely token's probability: fine enough that what is rounded away from the
// largest vocabularies is below the precision of a float, coarse enough that 2^23 tokens fit 64 bits.
inline constexpr int kMassBits = 40;

// Four numbers at a time, in the compiler's own vector types: the loops below need no intrinsics and no #ifdef.
using Floats = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));

// exp(exponent) for exponent <= 0 or minus infinity, by the polynomial of Cephes' expf: relative error at most 2e-7, 1
// at 0. Below -64 as at -64, which is no mass. `Number` is float or Floats, with the same bits.
template <typename Number>
inline Number ExpOf(Number exponent) {
  using Bits = std::conditional_t<std::is_same_v<Number, float>, uint32_t, Words>;
  constexpr float kShift = 0x1.8p23f;       // adding it rounds to an integer, which stands in the low bits
  constexpr float kLn2High = 0.693359375f;  // few bits, so that its product with n is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  const Number lowest = Number{} - 64.0f;
  const Number y = exponent > lowest ? exponent : lowest;
  const Number shifted = y * 1.44269504f + kShift;
  const Number n = shifted - kShift;
  const Number r = (y - n * kLn2High) - n * kLn2Low;
  Number p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Number e = (p * r) * r + r + 1.0f;
  return std::bit_cast<Number>(std::bit_cast<Bits>(e) + (std::bit_cast<Bits>(shifted) << 23));
}

// ExpOf of kLogitsBlock numbers.
void ExpOfBlock(const float* exponents, float* values);

// round(value * 2^40), for value in [0, 1]: a double near 2^12 counts in steps of 2^-40.
inline uint64_t ToMass(float value) {
  constexpr double kMassShift = 0x1.8p12;
  return std::bit_cast<uint64_t>(static_cast<double>(value) + kMassShift) - std::bit_cast<uint64_t>(kMassShift);
}

inline uint64_t MassOf(float exponent) { return ToMass(ExpOf(exponent)); }

// Mass of all logits >= threshold. `masses` is resized to the mass of each block; blocks whose maximum is below the
// threshold are not read.
uint64_t SumMasses(std::span<const float> logits, std::span<const float> block_max, const RowScale& scale,
                   float threshold, std::vector<uint64_t>& masses);

}  // namespace expertd
