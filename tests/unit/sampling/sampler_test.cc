#include "engine/sampling/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "engine/sampling/random.h"
#include "tests/unit/sampling/support/kernels.h"

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pair;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLogprobTolerance = 1e-6f;  // some units in the last place of a float near 1

struct Row {
  std::vector<float> logits;
  Sequence sequence;
};

SequenceResult Choose(const Row& row, SamplerScratch& scratch) {
  std::vector<float> logits = row.logits;
  TokenHistory history;
  SequenceResult result;
  SampleToken(logits, row.sequence, &history, scratch, result);
  return result;
}

SequenceResult Choose(const Row& row) {
  SamplerScratch scratch(BestKernels());
  return Choose(row, scratch);
}

Row RowOf(std::vector<float> logits, float temperature) {
  Row row{.logits = std::move(logits)};
  row.sequence.tokens = {0};
  row.sequence.num_prompt_tokens = 1;
  row.sequence.sampling.temperature = temperature;
  return row;
}

std::vector<float> RandomLogits(int size, uint64_t seed) {
  std::vector<float> logits(size);
  for (int i = 0; i < size; ++i) logits[i] = static_cast<float>(16.0 * RandomUniform(seed, i) - 8.0);
  return logits;
}

TEST(SamplerTest, GreedyTakesTheLowestOfTheLargestLogits) {
  std::vector<float> logits(200, 1.0f);
  logits[70] = logits[150] = 2.0f;

  for (const float temperature : {0.0f, 9e-6f, 1e-40f, -1.0f, std::nanf("")}) {
    EXPECT_EQ(Choose(RowOf(logits, temperature)).token, 70) << temperature;
  }
}

TEST(SamplerTest, VocabularyOfOneToken) {
  EXPECT_EQ(Choose(RowOf({-5.0f}, 0.0f)).token, 0);
  EXPECT_EQ(Choose(RowOf({-5.0f}, 1.0f)).token, 0);
}

TEST(SamplerTest, NanIsAnErrorAndNotAToken) {
  std::vector<float> logits(100, 1.0f);
  logits[99] = -std::nanf("");
  for (const float temperature : {0.0f, 1.0f}) {
    Row row = RowOf(logits, temperature);
    row.sequence.sampling.allowed_token_ids = {1};  // masked or not
    row.sequence.sampling.logprobs = LogprobOptions{.top_n = 2};

    const SequenceResult result = Choose(row);

    EXPECT_TRUE(result.has_nan);
    EXPECT_FALSE(result.no_valid_token);
    EXPECT_FALSE(result.has_logprob);
    EXPECT_EQ(result.token, -1);
  }
}

TEST(SamplerTest, NoTokenIsValidWhenAllAreMasked) {
  for (const float temperature : {0.0f, 1.0f}) {
    Row masked = RowOf({1.0f, 2.0f}, temperature);
    masked.sequence.sampling.bad_words = {{0}, {1}};

    for (const SequenceResult& result : {Choose(RowOf({-kInfinity, -kInfinity}, temperature)), Choose(masked)}) {
      EXPECT_TRUE(result.no_valid_token);
      EXPECT_FALSE(result.has_nan);
      EXPECT_EQ(result.token, -1);
    }
  }
}

TEST(SamplerTest, InfiniteLogitsShareAllProbability) {
  int drawn[4] = {};
  for (int seed = 0; seed < 1000; ++seed) {
    Row row = RowOf({0.0f, kInfinity, 3e38f, kInfinity}, 1.0f);
    row.sequence.sampling.seed = seed;
    row.sequence.sampling.logprobs = LogprobOptions{.token_ids = {0, 3}};

    const SequenceResult result = Choose(row);

    ++drawn[result.token];
    EXPECT_THAT(result.logprob.logprob, FloatNear(std::log(0.5f), kLogprobTolerance));
    EXPECT_THAT(result.logprob.top,
                ElementsAre(Pair(0, -kInfinity), Pair(3, FloatNear(std::log(0.5f), kLogprobTolerance))));
  }
  EXPECT_EQ(drawn[1] + drawn[3], 1000);
  EXPECT_NEAR(drawn[1], 500, 60);
  EXPECT_EQ(Choose(RowOf({0.0f, kInfinity, 3e38f, kInfinity}, 0.0f)).token, 1);
}

TEST(SamplerTest, MaskedTokensAreNeverDrawn) {
  for (int seed = 0; seed < 500; ++seed) {
    Row row = RowOf({5, 4, 3, 2, 1}, 2.0f);
    row.sequence.sampling.seed = seed;
    row.sequence.sampling.bad_words = {{0}, {0, 1}};
    row.sequence.sampling.logit_bias = {{2, 3.0f}};
    row.sequence.stop.min_tokens = 1;
    row.sequence.eos_token_ids = {3};

    EXPECT_THAT(Choose(row).token, ::testing::AnyOf(2, 4));
  }
}

TEST(SamplerTest, SeedAndPositionDecideTheDraw) {
  Row row = RowOf(std::vector<float>(1000, 0.0f), 1.0f);
  row.sequence.sampling.seed = 99;
  const int32_t first = Choose(row).token;

  EXPECT_EQ(Choose(row).token, first);
  EXPECT_EQ(first, static_cast<int32_t>(RandomUniform(99, 1) * 1000));
  row.sequence.tokens = {0, 5};
  EXPECT_EQ(Choose(row).token, static_cast<int32_t>(RandomUniform(99, 2) * 1000));
  row.sequence.sampling.seed = 100;
  EXPECT_EQ(Choose(row).token, static_cast<int32_t>(RandomUniform(100, 2) * 1000));
}

// Chi-square of 20,000 draws of one seed over the tokens that top-k and top-p leave; the seed is fixed, so the value is
// too. 99.9 % of true samples stay below the limits.
TEST(SamplerTest, FrequenciesFollowTheProbabilities) {
  struct Case {
    int top_k;
    float top_p;
    double limit;
  };
  for (const Case& c : {Case{0, 1.0f, 43.8}, Case{8, 1.0f, 24.3}, Case{0, 0.9f, 43.8}}) {
    const std::vector<double> weights = {20, 18, 16, 15, 14, 12, 11, 10, 9, 8, 8, 7, 7, 6, 6, 5, 5, 4, 3, 3};
    std::vector<float> logits;
    for (const double weight : weights) logits.push_back(static_cast<float>(0.7 * std::log(weight)));
    Row row = RowOf(logits, 0.7f);
    row.sequence.sampling.seed = 2024;
    row.sequence.sampling.top_k = c.top_k;
    row.sequence.sampling.top_p = c.top_p;
    double total = 0, kept = 0;
    for (const double weight : weights) total += weight;
    size_t num_kept = 0;
    while (num_kept < weights.size() && kept < c.top_p * total && (c.top_k == 0 || num_kept < 8)) {
      kept += weights[num_kept++];
    }

    std::vector<int> count(weights.size());
    constexpr int kDraws = 20000;
    SamplerScratch scratch(BestKernels());
    for (int position = 1; position <= kDraws; ++position) {
      row.sequence.tokens.assign(position, 0);
      ++count[Choose(row, scratch).token];
    }

    double chi_square = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      const double expected = i < num_kept ? kDraws * weights[i] / kept : 0.0;
      if (i >= num_kept) {
        EXPECT_EQ(count[i], 0) << i;
      } else {
        chi_square += (count[i] - expected) * (count[i] - expected) / expected;
      }
    }
    EXPECT_LT(chi_square, c.limit) << c.top_k << " " << c.top_p;
    EXPECT_GT(chi_square, 0.1);
  }
}

TEST(SamplerTest, ResultDoesNotDependOnScratchOrThread) {
  constexpr int kRows = 40;
  std::vector<Row> rows;
  for (int i = 0; i < kRows; ++i) {
    Row row = RowOf(RandomLogits(i % 3 == 0 ? 100 : 3001, i), 0.5f + 0.1f * i);
    row.sequence.sampling.seed = i;
    row.sequence.sampling.top_k = i % 2 == 0 ? 20 : 0;
    row.sequence.sampling.top_p = i % 4 < 2 ? 0.9f : 1.0f;
    row.sequence.sampling.repetition_penalty = i % 5 == 0 ? 1.5f : 1.0f;
    row.sequence.sampling.logprobs = LogprobOptions{.top_n = 5};
    row.sequence.tokens = {i, 1, 2};
    rows.push_back(std::move(row));
  }
  std::vector<SequenceResult> alone, together(kRows);
  for (const Row& row : rows) alone.push_back(Choose(row));

  const auto run_some = [&](int begin) {
    SamplerScratch scratch(BestKernels());
    for (int i = begin; i < kRows; i += 2) together[i] = Choose(rows[i], scratch);
  };
  std::thread other(run_some, 1);
  run_some(0);
  other.join();

  for (int i = 0; i < kRows; ++i) {
    EXPECT_EQ(together[i].token, alone[i].token);
    EXPECT_EQ(together[i].logprob.logprob, alone[i].logprob.logprob);
    EXPECT_EQ(together[i].logprob.rank, alone[i].logprob.rank);
    EXPECT_EQ(together[i].logprob.top, alone[i].logprob.top);
  }
}

TEST(SamplerTest, LogprobsAreOfTheRawLogits) {
  Row row = RowOf({std::log(0.5f), std::log(0.25f), std::log(0.25f)}, 0.1f);
  row.sequence.sampling.logit_bias = {{2, 50.0f}};
  row.sequence.sampling.logprobs = LogprobOptions{.top_n = 2};

  const SequenceResult result = Choose(row);

  EXPECT_EQ(result.token, 2);
  ASSERT_TRUE(result.has_logprob);
  EXPECT_EQ(result.logprob.token, 2);
  EXPECT_THAT(result.logprob.logprob, FloatNear(std::log(0.25f), kLogprobTolerance));
  EXPECT_EQ(result.logprob.rank, 3);  // the lower id of two equals comes first
  EXPECT_THAT(result.logprob.top, ElementsAre(Pair(0, FloatNear(std::log(0.5f), kLogprobTolerance)),
                                              Pair(1, FloatNear(std::log(0.25f), kLogprobTolerance))));
}

TEST(LogprobTest, ChosenIdsComeInTheOrderAsked) {
  SamplerScratch scratch(BestKernels());
  const std::vector<float> logits = {0, 1, -kInfinity, 2};

  const TokenLogprob result = ComputeLogprob(logits, 3, {.top_n = 4, .token_ids = {2, 0, 9, -1}}, scratch);

  const float log_sum = std::log(1.0f + std::exp(1.0f) + std::exp(2.0f));
  EXPECT_EQ(result.rank, 1);
  EXPECT_THAT(result.top, ElementsAre(Pair(2, -kInfinity), Pair(0, FloatNear(-log_sum, kLogprobTolerance)),
                                      Pair(9, -kInfinity), Pair(-1, -kInfinity)));
}

TEST(LogprobTest, TopCountBeyondTheVocabularyGivesAll) {
  SamplerScratch scratch(BestKernels());
  const std::vector<float> logits = {1, 1};

  EXPECT_THAT(ComputeLogprob(logits, 0, {.top_n = 20}, scratch).top,
              ElementsAre(Pair(0, FloatNear(std::log(0.5f), kLogprobTolerance)),
                          Pair(1, FloatNear(std::log(0.5f), kLogprobTolerance))));
  EXPECT_TRUE(ComputeLogprob(logits, 0, {.top_n = 0}, scratch).top.empty());
}

TEST(LogprobTest, NanInTheRowShowsAndAllMaskedIsMinusInfinity) {
  SamplerScratch scratch(BestKernels());

  EXPECT_TRUE(std::isnan(ComputeLogprob(std::vector<float>{1, std::nanf("")}, 0, {}, scratch).logprob));
  EXPECT_EQ(ComputeLogprob(std::vector<float>{-kInfinity, -kInfinity}, 0, {}, scratch).logprob, -kInfinity);
}

}  // namespace
}  // namespace expertd
