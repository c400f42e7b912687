#include "engine/sampling/logits_processor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;

constexpr float kMasked = -std::numeric_limits<float>::infinity();

TokenHistory HistoryOf(const std::vector<int32_t>& tokens, int num_prompt_tokens) {
  TokenHistory history;
  history.CatchUp(tokens, num_prompt_tokens);
  return history;
}

TEST(LogitsProcessorTest, AllowedTokensMaskTheRestAndIgnoreIdsOutsideTheRow) {
  std::vector<float> logits = {1, 2, 3, 4}, scratch;
  const std::vector<int32_t> allowed = {3, 1, 3, -1, 4, 1000000};

  ApplyAllowedTokens(allowed, logits, scratch);

  EXPECT_THAT(logits, ElementsAre(kMasked, 2, kMasked, 4));
}

TEST(LogitsProcessorTest, NoAllowedTokensMeansAll) {
  std::vector<float> logits = {1, 2}, scratch;

  ApplyAllowedTokens({}, logits, scratch);

  EXPECT_THAT(logits, ElementsAre(1, 2));
}

TEST(LogitsProcessorTest, BadWordMasksItsLastTokenAfterItsPrefix) {
  std::vector<float> logits = {0, 0, 0, 0, 0};
  const std::vector<std::vector<int32_t>> words = {{0}, {7, 8, 1}, {8, 7, 2}, {9, 7, 8, 3}, {}, {8, 5}, {8, -1}};
  const std::vector<int32_t> tokens = {7, 8};

  ApplyBadWords(words, tokens, logits);

  EXPECT_THAT(logits, ElementsAre(kMasked, kMasked, 0, 0, 0));
}

TEST(LogitsProcessorTest, MaskAndBiasIgnoreIdsOutsideTheRow) {
  std::vector<float> logits = {1, 2, 3};

  MaskTokens(std::vector<int32_t>{-1, 1, 3}, logits);
  ApplyLogitBias(std::vector<std::pair<int32_t, float>>{{0, 0.5f}, {1, 100.0f}, {-1, 1.0f}, {3, 1.0f}}, logits);

  EXPECT_THAT(logits, ElementsAre(1.5f, kMasked, 3));
}

TEST(LogitsProcessorTest, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  std::vector<float> logits = {4, -4, 4, kMasked, 0};

  ApplyRepetitionPenalty(HistoryOf({0, 1, 0, 3, 4, 99}, 2), 2.0f, logits);

  EXPECT_THAT(logits, ElementsAre(2, -8, 4, kMasked, 0));
}

TEST(LogitsProcessorTest, FrequencyAndPresencePenaltiesCountTheOutputOnly) {
  std::vector<float> logits = {10, 10, 10};

  ApplyFrequencyAndPresencePenalty(HistoryOf({0, 0, 1, 1, 1, 99}, 3), /*frequency=*/0.5f, /*presence=*/2.0f, logits);

  EXPECT_THAT(logits, ElementsAre(10, 10 - 2 * 0.5f - 2, 10));
}

TEST(TokenHistoryTest, CatchingUpTokenByTokenGivesWhatCountingAtOnceGives) {
  const std::vector<int32_t> tokens = {5, 5, 2, 9, 2, 5, 9, 9, 1};
  TokenHistory stepwise;

  for (size_t n = 3; n <= tokens.size(); ++n) stepwise.CatchUp(std::span(tokens).first(n), 3);

  const TokenHistory at_once = HistoryOf(tokens, 3);
  ASSERT_EQ(stepwise.entries().size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(stepwise.entries()[i].token, at_once.entries()[i].token);
    EXPECT_EQ(stepwise.entries()[i].num_outputs, at_once.entries()[i].num_outputs);
  }
  EXPECT_EQ(at_once.entries()[0].token, 5);
  EXPECT_EQ(at_once.entries()[0].num_outputs, 1);
  EXPECT_EQ(at_once.entries()[2].token, 9);
  EXPECT_EQ(at_once.entries()[2].num_outputs, 3);
}

TEST(LogitsProcessorTest, StopTokensAreMaskedUntilMinTokensAreWritten) {
  Sequence sequence;
  sequence.num_prompt_tokens = 1;
  sequence.stop.min_tokens = 2;
  sequence.stop.token_ids = {1};
  sequence.eos_token_ids = {2};
  std::vector<float> scratch, early = {0, 0, 0};

  sequence.tokens = {0, 0};
  EXPECT_TRUE(HasLogitsProcessors(sequence));
  ApplyLogitsProcessors(sequence, nullptr, early, scratch);
  sequence.tokens = {0, 0, 0};

  EXPECT_THAT(early, ElementsAre(0, kMasked, kMasked));
  EXPECT_FALSE(HasLogitsProcessors(sequence));
}

}  // namespace
}  // namespace expertd
