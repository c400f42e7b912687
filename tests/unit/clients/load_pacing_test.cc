#include "clients/cpp/load_pacing.h"

#include <gtest/gtest.h>

namespace expertd {
namespace {

TEST(LoadPacingTest, ClosedLoopKeepsItsNumberOfCallsOpen) {
  LoadPacing pacing(/*num_requests=*/3, /*concurrency=*/2, /*request_rate=*/0, /*seed=*/1);

  EXPECT_TRUE(pacing.Claim());
  EXPECT_TRUE(pacing.Claim());
  EXPECT_FALSE(pacing.Claim());  // full
  EXPECT_FALSE(pacing.has_started_all());

  EXPECT_TRUE(pacing.EndAndClaim());  // the third in the place of the first
  EXPECT_TRUE(pacing.has_started_all());
  EXPECT_FALSE(pacing.EndAndClaim());
  EXPECT_FALSE(pacing.is_over());
  EXPECT_FALSE(pacing.EndAndClaim());
  EXPECT_TRUE(pacing.is_over());
}

TEST(LoadPacingTest, OpenLoopStartsNoCallBecauseOneEnded) {
  LoadPacing pacing(/*num_requests=*/3, /*concurrency=*/1, /*request_rate=*/10, /*seed=*/1);

  EXPECT_TRUE(pacing.Claim());
  EXPECT_FALSE(pacing.has_room());
  EXPECT_FALSE(pacing.EndAndClaim());

  EXPECT_TRUE(pacing.has_room());
  EXPECT_TRUE(pacing.Claim());
  EXPECT_FALSE(pacing.is_over());
}

TEST(LoadPacingTest, ClosedLoopHasNoGaps) {
  LoadPacing pacing(/*num_requests=*/3, /*concurrency=*/1, /*request_rate=*/0, /*seed=*/1);

  EXPECT_EQ(pacing.NextGapSeconds(), 0);
}

TEST(LoadPacingTest, GapsOfAnOpenLoopHaveTheRatesMeanAndTheSeedsOrder) {
  constexpr int kGaps = 20000;
  LoadPacing pacing(kGaps, /*concurrency=*/1, /*request_rate=*/4, /*seed=*/1);
  LoadPacing same(kGaps, /*concurrency=*/1, /*request_rate=*/4, /*seed=*/1);
  LoadPacing other(kGaps, /*concurrency=*/1, /*request_rate=*/4, /*seed=*/2);

  double sum = 0;
  int num_above_mean = 0, num_unlike = 0;
  for (int i = 0; i < kGaps; ++i) {
    const double gap = pacing.NextGapSeconds();
    EXPECT_EQ(gap, same.NextGapSeconds());
    num_unlike += gap != other.NextGapSeconds() ? 1 : 0;
    sum += gap;
    num_above_mean += gap > 0.25 ? 1 : 0;
  }

  // The mean's standard error is 0.25 / sqrt(20000) = 0.0018; e^-1 of exponential gaps exceed their mean, with a
  // standard error of 0.0034. Five of each are allowed.
  EXPECT_NEAR(sum / kGaps, 0.25, 0.009);
  EXPECT_NEAR(static_cast<double>(num_above_mean) / kGaps, 0.3679, 0.017);
  EXPECT_GT(num_unlike, kGaps - 10);
}

}  // namespace
}  // namespace expertd
