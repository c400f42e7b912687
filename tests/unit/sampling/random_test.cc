#include "engine/sampling/random.h"

#include <gtest/gtest.h>

#include <set>

namespace expertd {
namespace {

// Known answers published with the paper's library (Random123, kat_vectors).
TEST(RandomTest, PhiloxGivesThePublishedAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}), (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomTest, BitsAreTheFirstTwoWordsOfTheBlockOfSeedAndPosition) {
  EXPECT_EQ(RandomBits(/*seed=*/0, /*position=*/0), 0xe169c58d6627e8d5u);
  const PhiloxCounter block = Philox4x32({5, 2, 0, 0}, {7, 3});

  EXPECT_EQ(RandomBits((uint64_t{3} << 32) | 7, (uint64_t{2} << 32) | 5), (uint64_t{block[1]} << 32) | block[0]);
}

TEST(RandomTest, SeedsAndPositionsDifferInEveryBit) {
  std::set<uint64_t> drawn;

  for (int bit = 0; bit < 64; ++bit) {
    drawn.insert(RandomBits(uint64_t{1} << bit, 0));
    drawn.insert(RandomBits(0, uint64_t{1} << bit));
  }

  EXPECT_EQ(drawn.size(), 128u);
}

TEST(RandomTest, UniformStaysBelowOneAndHasTheRightMean) {
  double sum = 0.0;

  for (uint64_t position = 0; position < 100000; ++position) {
    const double u = RandomUniform(42, position);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }

  EXPECT_NEAR(sum / 100000, 0.5, 0.003);  // three standard deviations: 3 * sqrt(1 / 12) / sqrt(100000)
}

}  // namespace
}  // namespace expertd
