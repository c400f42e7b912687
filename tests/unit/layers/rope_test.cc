#include "engine/layers/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace expertd {
namespace {

RopeSpec Spec(decltype(RopeSpec::scaling) scaling) { return {.theta = 1e6, .rotary_dim = 128, .scaling = scaling}; }

// Frequencies of Qwen2.5 with the YaRN settings that its model cards advise.
const YarnRope kQwenYarn = {.factor = 4.0, .original_max_positions = 32768, .attention_factor = 1.138629};

TEST(RopeTest, PlainFrequenciesFallGeometrically) {
  const std::vector<double> frequencies = RopeFrequencies(Spec(PlainRope{}));

  ASSERT_EQ(frequencies.size(), 64u);
  EXPECT_DOUBLE_EQ(frequencies[0], 1.0);
  EXPECT_NEAR(frequencies[32], 0.001, 1e-15);
  EXPECT_NEAR(frequencies[63], 1.24093776e-06, 1e-14);
}

TEST(RopeTest, LinearScalingDividesEveryFrequency) {
  const std::vector<double> frequencies = RopeFrequencies(Spec(LinearRope{8.0}));

  EXPECT_DOUBLE_EQ(frequencies[0], 0.125);
  EXPECT_NEAR(frequencies[32], 0.000125, 1e-16);
}

TEST(RopeTest, YarnBlendsBetweenItsCorrections) {
  const std::vector<double> frequencies = RopeFrequencies(Spec(kQwenYarn));

  EXPECT_NEAR(frequencies[1], 0.805842188, 1e-8);
  EXPECT_NEAR(frequencies[23], 0.00697830585, 1e-10);
  EXPECT_NEAR(frequencies[24], 0.00537532149, 1e-10);
  EXPECT_NEAR(frequencies[30], 0.00106436098, 1e-10);
  EXPECT_NEAR(frequencies[40], 4.44569853e-05, 1e-12);
  EXPECT_NEAR(frequencies[63], 3.1023444e-07, 1e-14);
}

TEST(RopeTableTest, HoldsCosinesAndSinesOfEachPosition) {
  const RopeTable table(Spec(PlainRope{}), 40960);

  const RopeRow row = table.Row(40959);

  EXPECT_FLOAT_EQ(row.cos[0], static_cast<float>(std::cos(40959.0)));
  EXPECT_FLOAT_EQ(row.sin[0], static_cast<float>(std::sin(40959.0)));
  EXPECT_FLOAT_EQ(row.cos[32], static_cast<float>(std::cos(40.959)));
  EXPECT_FLOAT_EQ(table.Row(0).cos[5], 1.0f);
  EXPECT_FLOAT_EQ(table.Row(0).sin[5], 0.0f);
}

TEST(RopeTableTest, ScalesByTheAmplitudeOfYarn) {
  const RopeTable table(Spec(kQwenYarn), 131072);

  EXPECT_FLOAT_EQ(table.Row(0).cos[0], 1.138629f);
}

TEST(RopeTableTest, KeepsRowsInPlaceWhileItGrows) {
  const RopeTable table(Spec(PlainRope{}), 1'000'000);
  const RopeRow early = table.Row(3);
  const float before = early.cos[0];

  for (int64_t position = 0; position < 1'000'000; position += 100'000) table.Row(position);

  EXPECT_EQ(table.Row(3).cos, early.cos);
  EXPECT_EQ(early.cos[0], before);
}

}  // namespace
}  // namespace expertd
