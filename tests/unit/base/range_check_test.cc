#include "engine/base/range_check.h"

#include <gtest/gtest.h>

#include <cmath>

namespace expertd {
namespace {

TEST(RangeCheckTest, TakesBothEnds) {
  EXPECT_TRUE(CheckRange("--x", 1, 1, 3).ok());
  EXPECT_TRUE(CheckRange("--x", 3, 1, 3).ok());
}

TEST(RangeCheckTest, NamesTheSettingItsValueAndItsRange) {
  EXPECT_EQ(CheckRange("--x", 0, 1, 3).message(), "--x is 0; must be 1..3");
  EXPECT_EQ(CheckRange("--x", 4, 1, 3).message(), "--x is 4; must be 1..3");
}

TEST(RangeCheckTest, RefusesNegativeNumbersAndNoNumbers) {
  EXPECT_TRUE(CheckNotNegative("--x", 0).ok());
  EXPECT_TRUE(CheckNotNegative("--x", INFINITY).ok());
  EXPECT_EQ(CheckNotNegative("--x", -0.5).message(), "--x is -0.5; must be 0 or more");
  EXPECT_EQ(CheckNotNegative("--x", NAN).message(), "--x is nan; must be 0 or more");
}

}  // namespace
}  // namespace expertd
