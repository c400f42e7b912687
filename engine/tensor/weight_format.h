// How the elements of a weight matrix are held in memory.
#pragma once

#include <optional>
#include <string_view>

namespace expertd {

enum class WeightFormat {
  kF32,
  kBF16,
  kInt8,  // 8-bit codes, one scale per output
  kInt4,  // 4-bit codes, one scale (and, where the checkpoint has them, one zero point) per output and 128 inputs
};

// "f32", "bf16", "int8", "int4".
constexpr std::string_view WeightFormatName(WeightFormat format) {
  constexpr std::string_view kNames[] = {"f32", "bf16", "int8", "int4"};
  return kNames[static_cast<int>(format)];
}

inline constexpr WeightFormat kWeightFormats[] = {WeightFormat::kF32, WeightFormat::kBF16, WeightFormat::kInt8,
                                                  WeightFormat::kInt4};

// The format of that name, or nothing.
constexpr std::optional<WeightFormat> WeightFormatNamed(std::string_view name) {
  for (const WeightFormat format : kWeightFormats) {
    if (WeightFormatName(format) == name) return format;
  }
  return std::nullopt;
}

// What becomes of weights that the checkpoint holds as integers.
enum class QuantizedWeights {
  kKeep,     // codes and scales stay as they are where an in-memory format has room for them
  kConvert,  // they take the format that floats take; codes of that very format stay as they are
};

// True for formats whose products are sums of integers: rows of x are quantized to 8 bits first.
constexpr bool IsInteger(WeightFormat format) { return format >= WeightFormat::kInt8; }

// How matrices are held beside others in `format` that are not to be quantized.
constexpr WeightFormat FloatFormat(WeightFormat format) {
  return format == WeightFormat::kF32 ? WeightFormat::kF32 : WeightFormat::kBF16;
}

}  // namespace expertd
