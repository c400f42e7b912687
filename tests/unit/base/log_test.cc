#include "engine/base/log.h"

#include <gtest/gtest.h>

namespace expertd {
namespace {

std::string Logged(const std::function<void()>& log) {
  ::testing::internal::CaptureStderr();
  log();
  return ::testing::internal::GetCapturedStderr();
}

TEST(LogTest, WritesOneLineWithItsFields) {
  const std::string line = Logged([] { LogInfo("model_loaded", {{"layers", 5}, {"isa", "avx512"}}); });

  EXPECT_NE(line.find(" INFO event=model_loaded layers=5 isa=avx512\n"), std::string::npos);
}

TEST(LogTest, QuotesWhatCouldForgeALine) {
  const std::string line = Logged([] { LogWarning("bad", {{"text", "a\nb=\"c\""}}); });

  EXPECT_NE(line.find("text=\"a\\nb=\\\"c\\\"\"\n"), std::string::npos);
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(LogTest, DropsLinesBelowTheLevel) {
  SetLogLevel(LogLevel::kError);
  const std::string nothing = Logged([] { LogWarning("quiet"); });
  SetLogLevel(LogLevel::kInfo);

  EXPECT_EQ(nothing, "");
}

TEST(CheckDeathTest, NamesTheBrokenInvariant) {
  EXPECT_DEATH(EXPERTD_CHECK(1 + 1 == 3, "sum is ", 2), "condition=\"1 \\+ 1 == 3\".*detail=\"sum is 2\"");
}

}  // namespace
}  // namespace expertd
