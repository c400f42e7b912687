// Norms, activations, rotary embedding, softmax and argmax against the reference and against plain facts.
#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/support/cases.h"

namespace expertd {
namespace {

constexpr int kSizes[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 80, 100, 192, 513, 2560};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

// Of an exponential: the polynomial, its argument's reduction and the rounding of each; measured 1.0 units in the last
// place (2^-23), and one more for the division and the product around it.
constexpr float kExpTolerance = 3 * 1.2e-7f;
// Of a sum in floats of up to 2560 terms of one sign, in at least 8 chains, against one in doubles.
constexpr float kSumTolerance = 2e-6f;

// Of a GELU: relative, but where it is next to nothing; the rounding of the exponential's argument counts most.
constexpr float kGeluTolerance = 5e-6f;
constexpr float kGeluUnderflow = 1e-12f;

using ElementwiseTest = KernelsTest;
EXPERTD_FOR_EVERY_ISA(ElementwiseTest);

void ExpectRelativelyNear(float actual, float expected, float tolerance, int index) {
  ASSERT_LE(std::abs(actual - expected), tolerance * std::abs(expected)) << "at " << index << ": " << actual << " for "
                                                                         << expected;
}

TEST_P(ElementwiseTest, RmsNormMatchesTheReference) {
  for (int size : kSizes) {
    const std::vector<float> x = RandomFloats(size, 1, 5.0f), weight = RandomFloats(size, 2);
    std::vector<float> expected(size), actual(size);
    Reference().rms_norm(x.data(), weight.data(), 1e-6f, size, expected.data());

    kernels().rms_norm(x.data(), weight.data(), 1e-6f, size, actual.data());

    for (int i = 0; i < size; ++i) ExpectRelativelyNear(actual[i], expected[i], kSumTolerance, i);
  }
}

TEST_P(ElementwiseTest, RmsNormWorksInPlace) {
  std::vector<float> x = {3.0f, 4.0f};
  const float weight[] = {1.0f, 2.0f};

  kernels().rms_norm(x.data(), weight, 0.0f, 2, x.data());

  EXPECT_NEAR(x[0], 0.848528f, 1e-6f);
  EXPECT_NEAR(x[1], 2.262742f, 1e-6f);
}

TEST_P(ElementwiseTest, LayerNormMatchesTheReference) {
  for (int size : kSizes) {
    const std::vector<float> weight = RandomFloats(size, 2), bias = RandomFloats(size, 3);
    std::vector<float> x = RandomFloats(size, 1, 5.0f), expected(size), actual(size);
    for (float& value : x) value += 20.0f;  // a mean that one pass over the squares would lose digits to
    Reference().layer_norm(x.data(), weight.data(), bias.data(), 1e-5f, size, expected.data());

    kernels().layer_norm(x.data(), weight.data(), bias.data(), 1e-5f, size, actual.data());

    // The mean of numbers near 20 is rounded to 1e-6, a few times; deviations of about 5 become 1.
    for (int i = 0; i < size; ++i) ASSERT_NEAR(actual[i], expected[i], 2e-5f) << i << " of " << size;
  }
}

TEST_P(ElementwiseTest, LayerNormTakesTheMeanAwayAndWorksInPlace) {
  std::vector<float> x = {1.0f, 3.0f, 5.0f, 7.0f};
  const float weight[] = {1.0f, 2.0f, 1.0f, 1.0f}, bias[] = {0.0f, 0.0f, 10.0f, 0.0f};

  kernels().layer_norm(x.data(), weight, bias, 0.0f, 4, x.data());

  EXPECT_NEAR(x[0], -1.3416408f, 1e-6f);  // deviations -3, -1, 1, 3; variance 5
  EXPECT_NEAR(x[1], -0.8944272f, 1e-6f);
  EXPECT_NEAR(x[2], 10.4472136f, 1e-6f);
  EXPECT_NEAR(x[3], 1.3416408f, 1e-6f);
}

TEST_P(ElementwiseTest, AddAndAddScaledHaveTheBitsOfTheReference) {
  for (int size : kSizes) {
    const std::vector<float> y = RandomFloats(size, 1), x = RandomFloats(size, 2);
    std::vector<float> expected = x, actual = x;
    Reference().add(y.data(), size, expected.data());
    Reference().add_scaled(y.data(), 0.3f, size, expected.data());

    kernels().add(y.data(), size, actual.data());
    kernels().add_scaled(y.data(), 0.3f, size, actual.data());

    ASSERT_EQ(FirstDifference(actual, expected), -1) << size;
  }
}

TEST_P(ElementwiseTest, SiluMulMatchesTheReference) {
  for (int size : kSizes) {
    const std::vector<float> gate = RandomFloats(size, 1, 10.0f), up = RandomFloats(size, 2);
    std::vector<float> expected(size), actual(size);
    Reference().silu_mul(gate.data(), up.data(), size, expected.data());

    kernels().silu_mul(gate.data(), up.data(), size, actual.data());

    for (int i = 0; i < size; ++i) ExpectRelativelyNear(actual[i], expected[i], kExpTolerance, i);
  }
}

TEST_P(ElementwiseTest, SiluMulGoesToItsLimitsFarOut) {
  const float gate[] = {0.0f, 100.0f, -200.0f, 1e30f, -1e30f, kInfinity, kNan};
  const float up[] = {5.0f, 2.0f, 2.0f, 1.0f, 1.0f, 1.0f, 1.0f};
  float out[7] = {};

  kernels().silu_mul(gate, up, 7, out);

  EXPECT_EQ(out[0], 0.0f);
  EXPECT_EQ(out[1], 200.0f);
  EXPECT_EQ(out[2], 0.0f);
  EXPECT_EQ(out[3], 1e30f);
  EXPECT_EQ(out[4], 0.0f);
  EXPECT_EQ(out[5], kInfinity);
  EXPECT_TRUE(std::isnan(out[6]));
}

// The element's bits may not depend on whether it lies in a whole vector or in the tail.
TEST_P(ElementwiseTest, SiluMulGivesAnElementTheSameBitsAtAnyPlace) {
  const std::vector<float> gate = RandomFloats(100, 1, 4.0f), up = RandomFloats(100, 2);
  std::vector<float> whole(100);
  kernels().silu_mul(gate.data(), up.data(), 100, whole.data());

  for (int begin = 0; begin < 100; ++begin) {
    std::vector<float> piece(100 - begin);
    kernels().silu_mul(gate.data() + begin, up.data() + begin, 100 - begin, piece.data());

    ASSERT_EQ(FirstDifference(piece.data(), whole.data() + begin, 100 - begin), -1) << begin;
  }
}

TEST_P(ElementwiseTest, GelusMatchTheReference) {
  for (const auto gelu : {&Kernels::gelu_erf, &Kernels::gelu_tanh}) {
    std::vector<float> x, expected, actual;
    for (float v = -12.0f; v <= 12.0f; v += 0.0037f) x.push_back(v);
    expected.resize(x.size());
    actual.resize(x.size());
    (Reference().*gelu)(x.data(), static_cast<int64_t>(x.size()), expected.data());

    (kernels().*gelu)(x.data(), static_cast<int64_t>(x.size()), actual.data());

    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_NEAR(actual[i], expected[i], kGeluTolerance * std::abs(expected[i]) + kGeluUnderflow) << x[i];
    }
  }
}

TEST_P(ElementwiseTest, GelusHaveTheirKnownValues) {
  const float x[] = {-1.0f, 0.5f, 2.0f, 0.0f};
  float by_erf[4], by_tanh[4];

  kernels().gelu_erf(x, 4, by_erf);
  kernels().gelu_tanh(x, 4, by_tanh);

  EXPECT_NEAR(by_erf[0], -0.1586553f, 1e-7f);
  EXPECT_NEAR(by_erf[1], 0.3457312f, 1e-7f);
  EXPECT_NEAR(by_erf[2], 1.9544997f, 3e-7f);
  EXPECT_EQ(by_erf[3], 0.0f);
  EXPECT_NEAR(by_tanh[0], -0.1588080f, 1e-7f);
  EXPECT_NEAR(by_tanh[1], 0.3457140f, 1e-7f);
  EXPECT_NEAR(by_tanh[2], 1.9545977f, 3e-7f);
  EXPECT_EQ(by_tanh[3], 0.0f);
}

TEST_P(ElementwiseTest, GelusGoToTheirLimitsFarOut) {
  for (const auto gelu : {&Kernels::gelu_erf, &Kernels::gelu_tanh}) {
    const float x[] = {100.0f, -100.0f, 1e30f, -1e30f, kInfinity, kNan};
    float out[6] = {};

    (kernels().*gelu)(x, 6, out);

    EXPECT_EQ(out[0], 100.0f);
    EXPECT_EQ(out[1], 0.0f);
    EXPECT_EQ(out[2], 1e30f);
    EXPECT_EQ(out[3], 0.0f);
    EXPECT_EQ(out[4], kInfinity);
    EXPECT_TRUE(std::isnan(out[5]));
  }
}

// Also in place: an element's bits may not depend on where it lies.
TEST_P(ElementwiseTest, GelusGiveAnElementTheSameBitsAtAnyPlace) {
  for (const auto gelu : {&Kernels::gelu_erf, &Kernels::gelu_tanh}) {
    const std::vector<float> x = RandomFloats(100, 1, 4.0f);
    std::vector<float> whole(100);
    (kernels().*gelu)(x.data(), 100, whole.data());

    for (int begin = 0; begin < 100; ++begin) {
      std::vector<float> piece(x.begin() + begin, x.end());
      (kernels().*gelu)(piece.data(), 100 - begin, piece.data());

      ASSERT_EQ(FirstDifference(piece.data(), whole.data() + begin, 100 - begin), -1) << begin;
    }
  }
}

TEST_P(ElementwiseTest, RopeHasTheBitsOfTheReference) {
  for (int rotary_dim : {2, 8, 20, 32, 64, 80, 128}) {
    const std::vector<float> cos = RandomFloats(rotary_dim / 2, 1), sin = RandomFloats(rotary_dim / 2, 2);
    const std::vector<float> x = RandomFloats(rotary_dim + 1, 3);
    std::vector<float> expected = x, actual = x;
    Reference().rope(cos.data(), sin.data(), rotary_dim, expected.data());

    kernels().rope(cos.data(), sin.data(), rotary_dim, actual.data());

    ASSERT_EQ(FirstDifference(actual, expected), -1) << rotary_dim;
  }
}

TEST_P(ElementwiseTest, RopeTurnsTheHalvesIntoEachOther) {
  const float cos[] = {0.0f}, sin[] = {1.0f};
  float x[] = {2.0f, 3.0f};

  kernels().rope(cos, sin, 2, x);

  EXPECT_EQ(x[0], -3.0f);
  EXPECT_EQ(x[1], 2.0f);
}

TEST_P(ElementwiseTest, SoftmaxMatchesTheReferenceAndSumsToOne) {
  for (int size : kSizes) {
    const std::vector<float> x = RandomFloats(size, 1, 8.0f);
    std::vector<float> expected = x, actual = x;
    Reference().softmax(size, expected.data());

    kernels().softmax(size, actual.data());

    double sum = 0.0;
    for (int i = 0; i < size; ++i) {
      ExpectRelativelyNear(actual[i], expected[i], kExpTolerance + kSumTolerance, i);
      sum += actual[i];
    }
    EXPECT_NEAR(sum, 1.0, 1e-5);
  }
}

TEST_P(ElementwiseTest, SoftmaxGivesNothingToMinusInfinity) {
  std::vector<float> x(20, -kInfinity);
  x[3] = 1000.0f;
  x[19] = 1000.0f;

  kernels().softmax(20, x.data());

  EXPECT_EQ(x[0], 0.0f);
  EXPECT_EQ(x[3], 0.5f);
  EXPECT_EQ(x[19], 0.5f);
}

// Through softmax of (0, v): its first element is 1 / (1 + e^v), which exposes e^v over the whole range.
TEST_P(ElementwiseTest, ExponentialIsWithinTwoUnitsInTheLastPlace) {
  for (float v = -87.0f; v <= 0.0f; v += 0.0137f) {
    float x[] = {0.0f, v};

    kernels().softmax(2, x);

    const double exact = std::exp(static_cast<double>(v));
    const double ratio = static_cast<double>(x[1]) / x[0];  // the common division cancels to one rounding each
    ASSERT_NEAR(ratio / exact, 1.0, 4 * 6e-8) << v;
  }
}

TEST_P(ElementwiseTest, ArgmaxFindsTheFirstOfTheLargest) {
  for (int size : kSizes) {
    const std::vector<float> x = RandomFloats(size, 7);
    EXPECT_EQ(kernels().argmax(x.data(), size), Reference().argmax(x.data(), size)) << size;
  }
  std::vector<float> ties(100, 1.0f);
  ties[41] = ties[57] = ties[99] = 2.0f;
  EXPECT_EQ(kernels().argmax(ties.data(), 100), 41);
}

TEST_P(ElementwiseTest, ArgmaxPassesOverNan) {
  std::vector<float> x(40, kNan);
  EXPECT_EQ(kernels().argmax(x.data(), 40), 0);

  x[17] = -kInfinity;
  EXPECT_EQ(kernels().argmax(x.data(), 40), 17);

  x[33] = -5.0f;
  EXPECT_EQ(kernels().argmax(x.data(), 40), 33);
}

}  // namespace
}  // namespace expertd
