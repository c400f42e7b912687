// Rows of x made ready for products: codes and scales by hand, and the bits of the reference.
#include <cmath>
#include <limits>
#include <vector>

#include <gmock/gmock.h>

#include "tests/kernels/support/cases.h"

namespace expertd {
namespace {

using InputRowsTest = KernelsTest;
EXPERTD_FOR_EVERY_ISA(InputRowsTest);

struct Quantized {
  std::vector<int8_t> codes;
  float scale = -1.0f;
  std::vector<int32_t> sums;
};

Quantized Quantize(const Kernels& kernels, const std::vector<float>& x) {
  const size_t num_groups = (x.size() + kGroupInputs - 1) / kGroupInputs;
  Quantized row{std::vector<int8_t>(num_groups * kGroupInputs, 77), -1.0f, std::vector<int32_t>(1 + num_groups, 77)};
  kernels.quantize(x.data(), static_cast<int>(x.size()), row.codes.data(), &row.scale, row.sums.data());
  return row;
}

TEST_P(InputRowsTest, QuantizesByTheLargestMagnitude) {
  std::vector<float> x(130, 0.0f);
  x[0] = -254.0f;
  x[1] = 127.0f;
  x[2] = 1.0f;    // half a step: to even
  x[3] = 3.0f;    // a step and a half: to even
  x[129] = -5.9f;

  const Quantized row = Quantize(kernels(), x);

  EXPECT_EQ(row.scale, 2.0f);
  EXPECT_EQ(row.codes[0], -127);
  EXPECT_EQ(row.codes[1], 64);
  EXPECT_EQ(row.codes[2], 0);
  EXPECT_EQ(row.codes[3], 2);
  EXPECT_EQ(row.codes[129], -3);
  EXPECT_EQ(row.codes[130], 0);
  EXPECT_EQ(row.codes[255], 0);
  EXPECT_THAT(row.sums, testing::ElementsAre(-127 + 64 + 2 - 3, -127 + 64 + 2, -3));
}

TEST_P(InputRowsTest, QuantizesToTheBitsOfTheReference) {
  for (int size : {1, 7, 8, 15, 16, 17, 31, 80, 127, 128, 129, 513, 2560}) {
    for (float scale : {1.0f, 1e-20f, 3e30f}) {
      const std::vector<float> x = RandomFloats(size, static_cast<uint32_t>(size), scale);
      const Quantized expected = Quantize(Reference(), x);

      const Quantized actual = Quantize(kernels(), x);

      EXPECT_EQ(actual.codes, expected.codes) << size;
      EXPECT_EQ(Bits(actual.scale), Bits(expected.scale)) << size;
      EXPECT_EQ(actual.sums, expected.sums) << size;
    }
  }
}

TEST_P(InputRowsTest, QuantizesNothingToZeros) {
  for (float value : {0.0f, -0.0f, 1e-38f, 9e-31f}) {
    const Quantized row = Quantize(kernels(), std::vector<float>(20, value));

    EXPECT_EQ(row.scale, 0.0f);
    EXPECT_EQ(row.codes, std::vector<int8_t>(kGroupInputs, 0));
    EXPECT_THAT(row.sums, testing::ElementsAre(0, 0));
  }
}

TEST_P(InputRowsTest, MarksRowsThatAreNotFinite) {
  for (float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> x = RandomFloats(40, 1);
    x[33] = -value;

    const Quantized row = Quantize(kernels(), x);

    EXPECT_TRUE(std::isnan(row.scale));
    EXPECT_EQ(row.codes, std::vector<int8_t>(kGroupInputs, 0));
  }
}

TEST_P(InputRowsTest, RoundsToBf16AsTheReferenceDoes) {
  for (int size : {1, 8, 17, 32, 33, 200}) {
    std::vector<float> x = RandomFloats(size, static_cast<uint32_t>(size));
    x[size / 2] = std::numeric_limits<float>::quiet_NaN();
    x[size / 3] = std::numeric_limits<float>::max();
    const size_t padded = static_cast<size_t>(PaddedInputs(WeightFormat::kBF16, size));
    std::vector<BFloat16> expected(padded, BFloat16{7}), actual = expected;
    Reference().round_to_bf16(x.data(), size, expected.data());

    kernels().round_to_bf16(x.data(), size, actual.data());

    for (size_t i = 0; i < padded; ++i) {
      const float value = ToFloat(actual[i]);
      EXPECT_TRUE(std::isnan(ToFloat(expected[i])) ? std::isnan(value) : actual[i].bits == expected[i].bits) << i;
    }
  }
}

}  // namespace
}  // namespace expertd
