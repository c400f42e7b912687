// What sampling asks of a row of logits, against the reference and against plain facts.
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gmock/gmock.h>

#include "tests/kernels/support/cases.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;

constexpr int kSizes[] = {1, 2, 15, 16, 17, 63, 64, 65, 80, 127, 128, 200, 1000, 5003};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLowest = std::numeric_limits<float>::lowest();

// Of an exponential in floats, beside the half unit of rounding to an integer.
constexpr double kExpTolerance = 2e-7;

using LogitsTest = KernelsTest;
EXPERTD_FOR_EVERY_ISA(LogitsTest);

// A row and its summary by the reference.
struct Row {
  explicit Row(std::vector<float> values)
      : logits(std::move(values)), block_max((logits.size() + kLogitsBlock - 1) / kLogitsBlock) {
    max = Reference().summarize_logits(logits.data(), size(), block_max.data());
  }

  int64_t size() const { return static_cast<int64_t>(logits.size()); }
  LogitsRow view() const { return {logits.data(), size(), block_max.data()}; }

  std::vector<float> logits, block_max;
  float max;
};

// Normal numbers, every fifth masked.
Row RandomRow(int size, float scale = 5.0f) {
  std::vector<float> logits = RandomFloats(size, static_cast<uint32_t>(size), scale);
  for (int i = 4; i < size; i += 5) logits[i] = -kInfinity;
  return Row(std::move(logits));
}

TEST_P(LogitsTest, SummaryHasTheBitsOfTheReference) {
  for (const int size : kSizes) {
    const Row row = RandomRow(size);
    std::vector<float> block_max(row.block_max.size(), 7.0f);

    EXPECT_EQ(kernels().summarize_logits(row.logits.data(), row.size(), block_max.data()), row.max) << size;

    EXPECT_EQ(block_max, row.block_max) << size;
  }
}

TEST_P(LogitsTest, SummaryOfNothingAndOfMaskedLogitsIsMinusInfinity) {
  const std::vector<float> masked(70, -kInfinity);
  float block_max[2] = {};

  EXPECT_EQ(kernels().summarize_logits(nullptr, 0, nullptr), -kInfinity);
  EXPECT_EQ(kernels().summarize_logits(masked.data(), 70, block_max), -kInfinity);
  EXPECT_THAT(block_max, ElementsAre(-kInfinity, -kInfinity));
}

TEST_P(LogitsTest, SummaryTellsAnyNan) {
  for (const int size : {1, 63, 64, 65, 200}) {
    const Row row = RandomRow(size);
    std::vector<float> block_max(row.block_max.size());
    for (int i = 0; i < size; ++i) {
      std::vector<float> with_nan = row.logits;
      with_nan[i] = i % 2 == 0 ? std::nanf("") : -std::nanf("");

      EXPECT_TRUE(std::isnan(kernels().summarize_logits(with_nan.data(), size, block_max.data()))) << i;
    }
  }
}

TEST_P(LogitsTest, MassIsTheRoundedExponential) {
  for (const int size : kSizes) {
    const Row row = RandomRow(size);
    const LogitsScale scale = {.max = row.max, .inverse_temperature = 0.7f};
    std::vector<uint64_t> masses(size), expected(size);
    Reference().logit_masses(row.logits.data(), size, scale, expected.data());

    kernels().logit_masses(row.logits.data(), size, scale, masses.data());

    for (int i = 0; i < size; ++i) {
      const auto exact = static_cast<double>(expected[i]);
      ASSERT_NEAR(static_cast<double>(masses[i]), exact, 1.0 + kExpTolerance * exact) << "at " << i << " of " << size;
    }
  }
}

TEST_P(LogitsTest, MassIsExactAtTheMaximumAndNothingFarBelow) {
  const float logits[] = {2.0f, 2.0f - 29.0f, -100.0f, -1e30f, kLowest, -kInfinity};
  uint64_t masses[6] = {};

  kernels().logit_masses(logits, 6, {.max = 2.0f}, masses);

  EXPECT_THAT(masses, ElementsAre(uint64_t{1} << kMassBits, 0, 0, 0, 0, 0));
}

// So that sums by block, by bucket and one by one agree.
TEST_P(LogitsTest, SumsAreThoseOfTheMassesFromTheThresholdOn) {
  for (const int size : kSizes) {
    const Row row = RandomRow(size);
    const LogitsScale scale = {.max = row.max, .inverse_temperature = 1.3f};
    std::vector<uint64_t> masses(size), block_mass(row.block_max.size(), 7);
    kernels().logit_masses(row.logits.data(), size, scale, masses.data());
    for (const float threshold : {kLowest, -1.0f, row.max}) {
      std::vector<uint64_t> expected(row.block_max.size());
      for (int i = 0; i < size; ++i) expected[i / kLogitsBlock] += row.logits[i] >= threshold ? masses[i] : 0;

      const uint64_t total = kernels().sum_masses(row.view(), scale, threshold, block_mass.data());

      EXPECT_EQ(total, std::accumulate(expected.begin(), expected.end(), uint64_t{0})) << size << " " << threshold;
      EXPECT_EQ(block_mass, expected) << size << " " << threshold;
    }
  }
}

TEST_P(LogitsTest, FindsWhatTheReferenceFinds) {
  for (const int size : kSizes) {
    const Row row = RandomRow(size);
    for (const auto& [low, high] : {std::pair(-1.0f, 2.0f), std::pair(row.max, kInfinity), std::pair(kLowest, 0.0f),
                                    std::pair(-kInfinity, kInfinity), std::pair(1.0f, 0.5f)}) {
      for (const int limit : {0, 1, 10, size}) {
        std::vector<int32_t> found(size, -1), expected(size, -1);
        const int64_t num_expected = Reference().find_logits(row.view(), low, high, limit, expected.data());

        ASSERT_EQ(kernels().find_logits(row.view(), low, high, limit, found.data()), num_expected)
            << size << ", " << low << " to " << high << ", limit " << limit;
        EXPECT_EQ(found, expected);
      }
    }
  }
}

TEST_P(LogitsTest, FindsBothEndsOfTheRange) {
  const Row row({3.0f, 1.0f, 2.0f, 1.5f, 3.5f});
  int32_t found[5] = {};

  ASSERT_EQ(kernels().find_logits(row.view(), 1.5f, 3.0f, 5, found), 3);

  EXPECT_THAT(std::span(found, 3), ElementsAre(0, 2, 3));
}

}  // namespace
}  // namespace expertd
