#include "engine/tools/step_recorder.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace expertd {
namespace {

// A decode step of `num_sequences` from second `start` to second `end`.
StepStats Decode(int num_sequences, double start, double end) {
  StepStats step;
  step.phase = StepPhase::kDecode;
  step.num_tokens = step.num_sequences = step.num_sampled_tokens = num_sequences;
  step.end_time = absl::UnixEpoch() + absl::Seconds(end);
  step.duration = absl::Seconds(end - start);
  return step;
}

TEST(StepRecorderTest, WaitsForTheStepsOfAllTokens) {
  StepRecorder recorder;

  for (int round = 0; round < 200; ++round) {  // either thread may come first
    recorder.OnStep(Decode(2, 0, 1));
    std::thread engine([&] {  // reports the last two steps after the streams have ended
      recorder.OnStep(Decode(2, 1, 2));
      recorder.OnStep(Decode(1, 2, 3));
    });
    const std::vector<StepStats> steps = recorder.Take(5);
    engine.join();

    ASSERT_EQ(steps.size(), 3u);
    ASSERT_TRUE(recorder.Take(0).empty());
  }
}

TEST(StepRecorderTest, LeavesOutStepsOfNothing) {
  StepRecorder recorder;

  recorder.OnStep(StepStats());  // the engine has become idle

  EXPECT_TRUE(recorder.Take(0).empty());
}

TEST(StepRecorderTest, DecodeRateSpansTheStepsWithTheWholeBatch) {
  StepStats prefill = Decode(3, 0, 1);
  prefill.phase = StepPhase::kPrefill;

  const double rate = DecodeTokensPerSecond(
      {prefill, Decode(3, 1, 1.5), Decode(3, 1.75, 2), Decode(2, 2, 4)}, /*batch=*/3);  // a pause of 0.25 s counts

  EXPECT_DOUBLE_EQ(rate, 6.0);
}

TEST(StepRecorderTest, DecodeRateIsZeroWhenTheBatchNeverRanWhole) {
  EXPECT_EQ(DecodeTokensPerSecond({Decode(2, 1, 2), Decode(1, 2, 3)}, /*batch=*/3), 0.0);
  EXPECT_EQ(DecodeTokensPerSecond({}, /*batch=*/1), 0.0);
}

}  // namespace
}  // namespace expertd
