// Element types of tensors and the conversions between them.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace expertd {

enum class DType { kF32, kF16, kBF16 };

constexpr int64_t DTypeBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// "f32", "f16", "bf16".
std::string_view DTypeName(DType dtype);

// bfloat16: the upper half of an IEEE float. A value type without arithmetic; convert to float to compute.
struct BFloat16 {
  uint16_t bits = 0;
};

inline float ToFloat(BFloat16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

// Rounds to nearest even; NaN stays NaN.
inline BFloat16 ToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// IEEE half precision given as its bits.
float HalfToFloat(uint16_t bits);

// Rounds to nearest even; beyond the largest half, infinity; NaN stays NaN.
uint16_t FloatToHalf(float value);

}  // namespace expertd
