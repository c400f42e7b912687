#include "engine/tensor/dtype.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace expertd {
namespace {

TEST(DTypeTest, HasNamesAndSizes) {
  EXPECT_EQ(DTypeName(DType::kF32), "f32");
  EXPECT_EQ(DTypeName(DType::kF16), "f16");
  EXPECT_EQ(DTypeName(DType::kBF16), "bf16");
  EXPECT_EQ(DTypeBytes(DType::kF32), 4);
  EXPECT_EQ(DTypeBytes(DType::kF16), 2);
}

TEST(DTypeTest, ConvertsHalfPrecisionExactly) {
  EXPECT_EQ(HalfToFloat(0x0000), 0.0f);
  EXPECT_TRUE(std::signbit(HalfToFloat(0x8000)));
  EXPECT_EQ(HalfToFloat(0x3555), 0.333251953125f);
  EXPECT_EQ(HalfToFloat(0xfbff), -65504.0f);
  EXPECT_EQ(HalfToFloat(0x03ff), 0x3ffp-24f);  // the largest subnormal
  EXPECT_EQ(HalfToFloat(0x0400), 0x1p-14f);    // the smallest normal
  EXPECT_EQ(HalfToFloat(0xfc00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(HalfToFloat(0x7e01)));
}

TEST(DTypeTest, RoundsToBf16AndKeepsNan) {
  EXPECT_EQ(ToBFloat16(1.0f).bits, 0x3f80);
  EXPECT_EQ(ToBFloat16(-0.0f).bits, 0x8000);
  EXPECT_EQ(ToBFloat16(0x1.01p0f).bits, 0x3f80);     // a tie: to even
  EXPECT_EQ(ToBFloat16(0x1.010002p0f).bits, 0x3f81);  // above it
  EXPECT_EQ(ToBFloat16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_TRUE(std::isnan(ToFloat(ToBFloat16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(DTypeTest, RoundsToHalfAndBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = HalfToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(value)))) << bits;
    } else {
      EXPECT_EQ(FloatToHalf(value), bits);
    }
  }
}

TEST(DTypeTest, RoundsHalvesToNearestEven) {
  EXPECT_EQ(FloatToHalf(1.0f + 0x1p-11f), 0x3c00);             // a tie: to even
  EXPECT_EQ(FloatToHalf(1.0f + 0x1.8p-10f), 0x3c02);           // a tie: to even
  EXPECT_EQ(FloatToHalf(1.0f + 0x1.002p-11f), 0x3c01);         // just above
  EXPECT_EQ(FloatToHalf(65519.0f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToHalf(-1e30f), 0xfc00);
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0x0000);                    // half of the smallest: to even
  EXPECT_EQ(FloatToHalf(0x1.8p-24f), 0x0002);                  // a tie: to even
  EXPECT_EQ(FloatToHalf(-0x1p-24f), 0x8001);
}

std::vector<float> Floats(DType dtype, const std::vector<uint8_t>& bytes) {
  std::vector<float> values(bytes.size() / static_cast<size_t>(DTypeBytes(dtype)));
  ToFloats(dtype, reinterpret_cast<const std::byte*>(bytes.data()), static_cast<int64_t>(values.size()), values.data());
  return values;
}

TEST(DTypeTest, ReadsEightBitFloats) {
  EXPECT_THAT(Floats(DType::kF8E4M3, {0x00, 0x01, 0x08, 0x38, 0x40, 0x7e, 0xb8}),
              testing::ElementsAre(0.0f, 0x1p-9f, 0x1p-6f, 1.0f, 2.0f, 448.0f, -1.0f));
  EXPECT_TRUE(std::isnan(Floats(DType::kF8E4M3, {0x7f})[0]));
  EXPECT_TRUE(std::isnan(Floats(DType::kF8E4M3, {0xff})[0]));
}

TEST(DTypeTest, ReadsExponents) {
  EXPECT_THAT(Floats(DType::kF8E8M0, {0, 127, 130, 254}), testing::ElementsAre(0x1p-127f, 1.0f, 8.0f, 0x1p127f));
  EXPECT_TRUE(std::isnan(Floats(DType::kF8E8M0, {255})[0]));
}

TEST(DTypeTest, ReadsIntegers) {
  EXPECT_THAT(Floats(DType::kI8, {0x80, 0x7f}), testing::ElementsAre(-128.0f, 127.0f));
  EXPECT_THAT(Floats(DType::kU8, {0x80, 0x7f}), testing::ElementsAre(128.0f, 127.0f));
  EXPECT_THAT(Floats(DType::kI32, {0xfe, 0xff, 0xff, 0xff}), testing::ElementsAre(-2.0f));
  EXPECT_THAT(Floats(DType::kI64, {5, 1, 0, 0, 0, 0, 0, 0}), testing::ElementsAre(261.0f));
  EXPECT_THAT(Floats(DType::kU64, {0, 0, 0, 0, 0, 0, 0, 0x80}), testing::ElementsAre(0x1p63f));
}

}  // namespace
}  // namespace expertd
