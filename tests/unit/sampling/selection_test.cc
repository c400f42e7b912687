#include "engine/sampling/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/sampling/random.h"
#include "tests/unit/sampling/support/kernels.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;

constexpr float kMasked = -std::numeric_limits<float>::infinity();

enum class Shape { kNormal, kTied, kPeaked, kHalfMasked };

std::vector<float> RandomRow(int size, Shape shape, uint64_t seed) {
  std::vector<float> row(size);
  for (int i = 0; i < size; ++i) {
    double sum = -6.0;  // of twelve uniform numbers: near normal
    for (int k = 0; k < 12; ++k) sum += RandomUniform(seed, 12 * i + k);
    row[i] = static_cast<float>(sum);
    if (shape == Shape::kTied) row[i] = std::round(row[i]);
    if (shape == Shape::kPeaked) row[i] *= 6.0f;
    if (shape == Shape::kHalfMasked && i % 2 == 1) row[i] = kMasked;
  }
  return row;
}

float Max(const std::vector<float>& row) { return *std::max_element(row.begin(), row.end()); }

Selection Select(const std::vector<float>& row, const SamplingParams& params, SamplerScratch& scratch) {
  SummarizeRow(BestKernels(), row, scratch.block_max);
  return SelectTokens(row, Max(row), params, scratch);
}

// The ids that may be drawn, ascending.
std::vector<int32_t> KeptTokens(const std::vector<float>& row, const Selection& selection) {
  std::vector<int32_t> kept;
  for (int32_t i = 0; i < static_cast<int32_t>(row.size()); ++i) {
    if (!ComesBefore(selection.last, {row[i], i})) kept.push_back(i);
  }
  return kept;
}

std::vector<int32_t> Keep(const std::vector<float>& row, const SamplingParams& params) {
  SamplerScratch scratch(BestKernels());
  return KeptTokens(row, Select(row, params, scratch));
}

// The rule itself, with a full sort.
std::vector<int32_t> KeepBySorting(const std::vector<float>& row, const SamplingParams& params, uint64_t* kept_mass) {
  std::vector<Candidate> sorted;
  const float max = Max(row);
  const auto floor = static_cast<float>(max + params.temperature * std::log(double{params.min_p}));
  for (size_t i = 0; i < row.size(); ++i) {
    if (row[i] != kMasked && row[i] >= floor) sorted.push_back({row[i], static_cast<int32_t>(i)});
  }
  std::sort(sorted.begin(), sorted.end(), ComesBefore);
  if (params.top_k > 0 && params.top_k < static_cast<int>(sorted.size())) {
    const float kth = sorted[params.top_k - 1].logit;
    std::erase_if(sorted, [kth](const Candidate& candidate) { return candidate.logit < kth; });
  }
  uint64_t total = 0, before = 0;
  const auto mass = [&](const Candidate& c) { return MassOf((c.logit - max) * (1.0f / params.temperature)); };
  for (const Candidate& candidate : sorted) total += mass(candidate);
  std::vector<int32_t> kept;
  for (const Candidate& candidate : sorted) {
    if (params.top_p < 1.0f && static_cast<double>(before) >= double{params.top_p} * static_cast<double>(total)) break;
    before += mass(candidate);
    kept.push_back(candidate.token);
  }
  std::sort(kept.begin(), kept.end());
  *kept_mass = before;
  return kept;
}

TEST(RowMathTest, SummaryFindsTheMaximumOfEveryBlockAndAnyNan) {
  for (const int size : {1, 63, 64, 65, 200}) {
    std::vector<float> row = RandomRow(size, Shape::kNormal, size), block_max;
    for (int i = 0; i < size; ++i) {
      std::vector<float> with_nan = row;
      with_nan[i] = i % 2 == 0 ? std::nanf("") : -std::nanf("");
      EXPECT_TRUE(SummarizeRow(BestKernels(), with_nan, block_max).has_nan) << i;
    }

    const RowSummary summary = SummarizeRow(BestKernels(), row, block_max);

    EXPECT_FALSE(summary.has_nan);
    EXPECT_EQ(summary.max, Max(row));
    ASSERT_EQ(block_max.size(), static_cast<size_t>((size + 63) / 64));
    for (size_t b = 0; b < block_max.size(); ++b) {
      EXPECT_EQ(block_max[b], *std::max_element(row.begin() + b * 64, row.begin() + std::min<int>(size, b * 64 + 64)));
    }
  }
}

TEST(RowMathTest, SumOfMassesIsTheSumOfEachWhateverTheBlocks) {
  for (const int size : {1, 64, 67, 1000}) {
    const std::vector<float> row = RandomRow(size, Shape::kHalfMasked, size);
    const LogitsScale scale = {.max = Max(row), .inverse_temperature = 0.7f};
    std::vector<float> block_max;
    std::vector<uint64_t> masses;
    SummarizeRow(BestKernels(), row, block_max);
    uint64_t expected = 0;
    for (const float x : row) expected += x >= -1.0f ? MassOf(scale.Exponent(x)) : 0;

    EXPECT_EQ(SumMasses(BestKernels(), row, block_max, scale, -1.0f, masses), expected) << size;
    EXPECT_EQ(std::accumulate(masses.begin(), masses.end(), uint64_t{0}), expected) << size;
  }
}

TEST(RowMathTest, CountBeforeIsThePlaceInTheOrderOfCandidates) {
  const std::vector<float> row = {1, 3, 2, 3, kMasked};

  EXPECT_EQ(CountBefore(row, 1), 0);
  EXPECT_EQ(CountBefore(row, 3), 1);
  EXPECT_EQ(CountBefore(row, 2), 2);
  EXPECT_EQ(CountBefore(row, 0), 3);
  EXPECT_EQ(CountBefore(row, 4), 4);
}

TEST(SelectionTest, KthLargestIsThatOfASortedRow) {
  SamplerScratch scratch(BestKernels());
  for (const int size : {1, 64, 200, 3001}) {
    for (const Shape shape : {Shape::kNormal, Shape::kTied, Shape::kHalfMasked}) {
      const std::vector<float> row = RandomRow(size, shape, size);
      std::vector<float> sorted = row;
      std::sort(sorted.begin(), sorted.end(), std::greater<float>());
      SummarizeRow(BestKernels(), row, scratch.block_max);
      for (const int k : {1, 2, 20, 47, 48, 63, 199, 2000, size}) {
        if (k > size) continue;
        EXPECT_EQ(KthLargest(row, k, scratch), sorted[k - 1]) << size << " " << k;
      }
    }
  }
}

TEST(SelectionTest, KeepsExactlyWhatAFullSortKeeps) {
  SamplerScratch scratch(BestKernels());
  for (const int size : {1, 5, 64, 65, 1000, 5003}) {
    for (const Shape shape : {Shape::kNormal, Shape::kTied, Shape::kPeaked, Shape::kHalfMasked}) {
      const std::vector<float> row = RandomRow(size, shape, 17 * size);
      for (const float temperature : {0.2f, 1.0f, 8.0f}) {
        for (const int top_k : {0, 1, 20, 400, 6000}) {
          for (const float top_p : {1e-6f, 0.3f, 0.9f, 0.9999f, 1.0f}) {
            for (const float min_p : {0.0f, 0.05f, 1.0f}) {
              SamplingParams params;
              params.temperature = temperature, params.top_k = top_k, params.top_p = top_p, params.min_p = min_p;
              const Selection selection = Select(row, params, scratch);
              uint64_t expected_mass = 0;
              std::vector<int32_t> expected = KeepBySorting(row, params, &expected_mass);
              ASSERT_EQ(selection.total_mass, expected_mass)
                  << size << " " << temperature << " " << top_k << " " << top_p << " " << min_p;
              if (top_p < 1.0f || top_k == 0) {
                // Tokens of no mass stand behind the last that counts.
                ASSERT_EQ(KeptTokens(row, selection), expected);
              }
            }
          }
        }
      }
    }
  }
}

TEST(SelectionTest, TopKKeepsAllThatEqualTheKth) {
  SamplingParams params;
  params.top_k = 2;

  EXPECT_THAT(Keep({1, 5, 3, 3, 3, 0}, params), ElementsAre(1, 2, 3, 4));
}

TEST(SelectionTest, TopPBreaksTiesByTheLowestId) {
  SamplingParams params;
  params.top_p = 0.5f;

  EXPECT_THAT(Keep({2, 2, 2, 2}, params), ElementsAre(0, 1));
}

// One likely token and thousands of about 30 units of mass each, some of which the largest top_p below 1 needs.
TEST(SelectionTest, NucleusReachesTokensOfAlmostNoMass) {
  SamplingParams params;
  params.top_p = std::nextafter(1.0f, 0.0f);
  std::vector<float> row(5003);
  for (int i = 0; i < 5003; ++i) row[i] = -24.3f - 0.00001f * static_cast<float>(i % 97);
  row[1234] = 0.0f;
  uint64_t expected_mass = 0;
  const std::vector<int32_t> expected = KeepBySorting(row, params, &expected_mass);
  SamplerScratch scratch(BestKernels());

  const Selection selection = Select(row, params, scratch);

  EXPECT_GT(expected.size(), 1000u);
  EXPECT_LT(expected.size(), 4500u);
  EXPECT_EQ(selection.total_mass, expected_mass);
  EXPECT_EQ(KeptTokens(row, selection), expected);
}

TEST(SelectionTest, TinyTopPKeepsOneToken) {
  SamplingParams params;
  params.top_p = 1e-30f;

  EXPECT_THAT(Keep({1, 4, 4, 2}, params), ElementsAre(1));
}

TEST(SelectionTest, TopKOfTheVocabularyOrMoreIsOff) {
  SamplingParams params;
  for (const int top_k : {4, 5, std::numeric_limits<int32_t>::max()}) {
    params.top_k = top_k;

    EXPECT_THAT(Keep({1, 4, kMasked, 2}, params), ElementsAre(0, 1, 3)) << top_k;
  }
}

TEST(SelectionTest, MaskedTokensStayOutWhateverTheTemperature) {
  SamplingParams params;
  for (const float temperature : {1e-5f, 1.0f, 1e30f, std::numeric_limits<float>::max(),
                                  std::numeric_limits<float>::infinity()}) {
    params.temperature = temperature;
    SamplerScratch scratch(BestKernels());
    const std::vector<float> row = {kMasked, 1.0f, kMasked, 2.0f};
    const Selection selection = Select(row, params, scratch);

    EXPECT_EQ(DrawToken(row, selection, 0, scratch), temperature == 1e-5f ? 3 : 1) << temperature;
    EXPECT_EQ(DrawToken(row, selection, ~uint64_t{0}, scratch), 3) << temperature;
  }
}

TEST(SelectionTest, HugeTemperatureIsUniform) {
  SamplingParams params;
  params.temperature = 1e30f;
  SamplerScratch scratch(BestKernels());
  const std::vector<float> row = {-50, 0, 50, 7};

  EXPECT_EQ(Select(row, params, scratch).total_mass, uint64_t{4} << 40);
}

// Every kept token is drawn by exactly its share of the 2^64 possible draws.
TEST(SelectionTest, DrawsFollowTheMassOfEachToken) {
  for (const int size : {3, 100, 3000}) {
    const std::vector<float> row = RandomRow(size, Shape::kNormal, 5);
    for (const int top_k : {0, 10}) {
      for (const float top_p : {1.0f, 0.6f}) {
        SamplingParams params;
        params.top_k = top_k, params.top_p = top_p;
        SamplerScratch scratch(BestKernels());
        const Selection selection = Select(row, params, scratch);
        const std::vector<int32_t> kept = KeptTokens(row, selection);
        std::vector<double> share(size, 0.0);
        constexpr int kDraws = 20000;
        for (int i = 0; i < kDraws; ++i) {
          share[DrawToken(row, selection, (~uint64_t{0} / kDraws) * i, scratch)] += 1.0 / kDraws;
        }
        for (int32_t token = 0; token < size; ++token) {
          const bool is_kept = std::binary_search(kept.begin(), kept.end(), token);
          const double probability =
              is_kept ? static_cast<double>(MassOf(selection.scale.Exponent(row[token]))) / selection.total_mass : 0.0;
          ASSERT_NEAR(share[token], probability, is_kept ? 2.0 / kDraws : 0.0);
        }
      }
    }
  }
}

}  // namespace
}  // namespace expertd
