#include "engine/tensor/random_weights.h"

#include <cstring>

namespace expertd {
namespace {

// SplitMix64 (Steele, Lea and Flood 2014): one multiplication chain per 8 bytes, which is as fast as memory.
class RandomBits {
 public:
  explicit RandomBits(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t bits = state_ += 0x9e3779b97f4a7c15u;
    bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ bits >> 27) * 0x94d049bb133111ebu;
    return bits ^ bits >> 31;
  }

 private:
  uint64_t state_;
};

void FillBytes(RandomBits& random, std::byte* out, int64_t size_bytes) {
  for (int64_t i = 0; i < size_bytes; i += 8) {
    const uint64_t bits = random.Next();
    std::memcpy(out + i, &bits, static_cast<size_t>(size_bytes - i < 8 ? size_bytes - i : 8));
  }
}

// Codes of 0..255 or 0..15 have a mean half a step below their zero point: scales of either sign make it zero.
float EitherSign(RandomBits& random, float scale) { return random.Next() >> 63 ? scale : -scale; }

constexpr float kUniformSpread = 0.28867513f;  // the standard deviation of a uniform number in [-0.5, 0.5)

}  // namespace

void FillRandom(uint64_t seed, DType dtype, float spread, std::span<std::byte> out) {
  RandomBits random(seed);
  const float scale = spread / kUniformSpread * 0x1p-16f;
  const auto size = static_cast<int64_t>(out.size()) / DTypeBytes(dtype);
  for (int64_t begin = 0; begin < size; begin += 4) {
    const uint64_t bits = random.Next();
    for (int64_t i = begin; i < begin + 4 && i < size; ++i) {
      const auto sixteen = static_cast<int16_t>(bits >> 16 * (i - begin));
      const float value = (static_cast<float>(sixteen) + 0.5f) * scale;
      if (dtype == DType::kF32) {
        std::memcpy(out.data() + 4 * i, &value, 4);
      } else {
        const BFloat16 rounded = ToBFloat16(value);
        std::memcpy(out.data() + 2 * i, &rounded, 2);
      }
    }
  }
}

void FillRandomPanel(uint64_t seed, float spread, const PackedWeights& packed, std::byte* panel) {
  if (!IsInteger(packed.format)) {
    const DType dtype = packed.format == WeightFormat::kF32 ? DType::kF32 : DType::kBF16;
    FillRandom(seed, dtype, spread, {panel, static_cast<size_t>(packed.panel_bytes)});
    return;
  }
  RandomBits random(seed);
  auto* const scales = reinterpret_cast<float*>(panel);
  const float num_codes = packed.format == WeightFormat::kInt8 ? 256.0f : 16.0f;
  for (int column = 0; column < kPanelColumns; ++column) {
    scales[column] = EitherSign(random, spread / (kUniformSpread * num_codes));
  }
  std::byte* const codes = panel + kPanelScaleBytes;
  if (packed.format == WeightFormat::kInt8) {
    FillBytes(random, codes, packed.panel_bytes - kPanelScaleBytes);
    return;
  }
  for (std::byte* group = codes; group < panel + packed.panel_bytes; group += Int4GroupBytes(false)) {
    FillBytes(random, group, kInt4CodeBytes);
    for (int column = 0; column < kPanelColumns; ++column) {
      const uint16_t one = FloatToHalf(EitherSign(random, 1.0f));
      std::memcpy(group + kInt4CodeBytes + 2 * column, &one, 2);
    }
  }
}

}  // namespace expertd
