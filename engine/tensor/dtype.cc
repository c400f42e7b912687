#include "engine/tensor/dtype.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace expertd {
namespace {

float F8E4M3ToFloat(uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return bits >> 7 == 0 ? magnitude : -magnitude;
}

float F8E8M0ToFloat(uint8_t bits) {
  return bits == 0xff ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0f, bits - 127);
}

// Every value of an 8-bit type.
template <float (*kToFloat)(uint8_t)>
const std::array<float, 256>& TableOf() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values;
    for (int bits = 0; bits < 256; ++bits) values[bits] = kToFloat(static_cast<uint8_t>(bits));
    return values;
  }();
  return table;
}

// By memcpy, as files align nothing.
template <typename Element, typename Read>
void ReadEach(const std::byte* elements, int64_t count, float* out, Read read) {
  for (int64_t i = 0; i < count; ++i) {
    Element element;
    std::memcpy(&element, elements + i * sizeof(element), sizeof(element));
    out[i] = read(element);
  }
}

template <typename Integer>
void ReadIntegers(const std::byte* elements, int64_t count, float* out) {
  ReadEach<Integer>(elements, count, out, [](Integer value) { return static_cast<float>(value); });
}

void ReadByTable(const std::array<float, 256>& table, const std::byte* elements, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = table[std::to_integer<uint8_t>(elements[i])];
}

}  // namespace

std::string_view DTypeName(DType dtype) {
  constexpr std::string_view kNames[] = {"f32", "f16", "bf16", "f8_e4m3", "f8_e8m0", "i8",
                                         "u8",  "i32", "i64",  "u64"};
  return kNames[static_cast<int>(dtype)];
}

void ToFloats(DType dtype, const std::byte* elements, int64_t count, float* out) {
  switch (dtype) {
    case DType::kF32:
      if (count > 0) std::memcpy(out, elements, static_cast<size_t>(count) * sizeof(float));
      return;
    case DType::kF16:
      return ReadEach<uint16_t>(elements, count, out, HalfToFloat);
    case DType::kBF16:
      return ReadEach<uint16_t>(elements, count, out, [](uint16_t bits) { return ToFloat(BFloat16{bits}); });
    case DType::kF8E4M3:
      return ReadByTable(TableOf<F8E4M3ToFloat>(), elements, count, out);
    case DType::kF8E8M0:
      return ReadByTable(TableOf<F8E8M0ToFloat>(), elements, count, out);
    case DType::kI8:
      return ReadIntegers<int8_t>(elements, count, out);
    case DType::kU8:
      return ReadIntegers<uint8_t>(elements, count, out);
    case DType::kI32:
      return ReadIntegers<int32_t>(elements, count, out);
    case DType::kI64:
      return ReadIntegers<int64_t>(elements, count, out);
    case DType::kU64:
      return ReadIntegers<uint64_t>(elements, count, out);
  }
}

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in a float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t wide_exponent = exponent == 31 ? 255u : exponent + (127u - 15u);
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (mantissa << 13));
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and more
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 rounds to multiples of 2^-24, the step of subnormals
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<uint16_t>(sign | ((rounded >> 13) - ((127u - 15u) << 10)));
}

}  // namespace expertd
