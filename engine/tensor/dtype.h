// Element types of tensors and the conversions between them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace expertd {

// Floats first: those that computations take. The others are what quantized checkpoints store.
enum class DType {
  kF32,
  kF16,
  kBF16,
  kF8E4M3,  // 1 sign, 4 exponent and 3 mantissa bits; no infinities, NaN is 0x7f and 0xff, the largest is 448
  kF8E8M0,  // an exponent: 2^(byte - 127); 0xff is NaN
  kI8,
  kU8,
  kI32,
  kI64,
  kU64,
};

constexpr int64_t DTypeBytes(DType dtype) {
  constexpr int kBytes[] = {4, 2, 2, 1, 1, 1, 1, 4, 8, 8};
  return kBytes[static_cast<int>(dtype)];
}

// True for f32, f16 and bf16.
constexpr bool IsFloat(DType dtype) { return dtype <= DType::kBF16; }

// "f32", "f16", "bf16", "f8_e4m3", "f8_e8m0", "i8", "u8", "i32", "i64", "u64".
std::string_view DTypeName(DType dtype);

// Writes `count` elements of type `dtype`, which need no alignment, to `out` as floats: exactly, but for integers
// beyond 2^24, which are rounded to nearest even.
void ToFloats(DType dtype, const std::byte* elements, int64_t count, float* out);

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
