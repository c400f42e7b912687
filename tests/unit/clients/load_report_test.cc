#include "clients/cpp/load_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> Keys(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

CallRecord Ended(double time_to_first_token, double end_to_end, int64_t num_output_tokens, std::vector<float> gaps) {
  return {.time_to_first_token = time_to_first_token,
          .end_to_end = end_to_end,
          .gaps = std::move(gaps),
          .num_input_tokens = 10,
          .num_output_tokens = num_output_tokens};
}

CallRecord Failed(absl::StatusCode code, std::string reason, std::string message) {
  return {.status = absl::Status(code, message), .reason = std::move(reason)};
}

TEST(TimesReportTest, TakesPercentilesByNearestRank) {
  std::vector<double> seconds;
  for (int i = 200; i >= 1; --i) seconds.push_back(i / 1000.0);  // 1..200 ms, backwards

  const Json report = TimesReport(seconds);

  EXPECT_DOUBLE_EQ(report["mean_ms"].get<double>(), 100.5);
  EXPECT_DOUBLE_EQ(report["median_ms"].get<double>(), 100);  // rank 100 of 200
  EXPECT_DOUBLE_EQ(report["p99_ms"].get<double>(), 198);     // rank 198 of 200
}

TEST(TimesReportTest, OneTimeIsAllThree) {
  const Json report = TimesReport({0.5});

  EXPECT_EQ(report.dump(), R"({"mean_ms":500.0,"median_ms":500.0,"p99_ms":500.0})");
}

TEST(TimesReportTest, FewTimesHaveTheLargestAsTheir99thPercentile) {
  const Json report = TimesReport({0.003, 0.001, 0.002});

  EXPECT_DOUBLE_EQ(report["median_ms"].get<double>(), 2);
  EXPECT_DOUBLE_EQ(report["p99_ms"].get<double>(), 3);
}

TEST(TimesReportTest, NoTimesAreZeros) {
  EXPECT_EQ(TimesReport({}).dump(), R"({"mean_ms":0.0,"median_ms":0.0,"p99_ms":0.0})");
}

TEST(LoadReportTest, CountsWhatEndedWell) {
  const std::vector<CallRecord> records = {Ended(0.1, 0.5, 5, {0.1f, 0.1f, 0.1f, 0.1f}), Ended(0.2, 0.2, 1, {}),
                                           Failed(absl::StatusCode::kUnavailable, "DRAINING", "stopping")};

  const Json report = LoadReport({.concurrency = 2, .num_requests = 3}, records, /*seconds=*/2);

  EXPECT_THAT(Keys(report),
              ElementsAre("concurrency", "num_requests", "completed", "failed", "duration_seconds", "input_tokens",
                          "output_tokens", "requests_per_second", "output_tokens_per_second", "total_tokens_per_second",
                          "time_to_first_token", "inter_token", "time_per_output_token", "end_to_end", "errors"));
  EXPECT_EQ(report["concurrency"], 2);
  EXPECT_EQ(report["num_requests"], 3);
  EXPECT_EQ(report["completed"], 2);
  EXPECT_EQ(report["failed"], 1);
  EXPECT_EQ(report["duration_seconds"], 2.0);
  EXPECT_EQ(report["input_tokens"], 20);
  EXPECT_EQ(report["output_tokens"], 6);
  EXPECT_EQ(report["requests_per_second"], 1.0);
  EXPECT_EQ(report["output_tokens_per_second"], 3.0);
  EXPECT_EQ(report["total_tokens_per_second"], 13.0);
  EXPECT_NEAR(report["time_to_first_token"]["mean_ms"].get<double>(), 150, 1e-6);
  EXPECT_NEAR(report["inter_token"]["median_ms"].get<double>(), 100, 1e-4);
  EXPECT_NEAR(report["time_per_output_token"]["mean_ms"].get<double>(), 100, 1e-6);  // of the first call alone
  EXPECT_NEAR(report["end_to_end"]["p99_ms"].get<double>(), 500, 1e-6);
}

TEST(LoadReportTest, HasNoErrorsWhenAllEndedWell) {
  EXPECT_FALSE(LoadReport({}, {Ended(0.1, 0.5, 5, {})}, /*seconds=*/1).contains("errors"));
}

TEST(LoadReportTest, GroupsFailuresByCodeAndReasonWhateverTheirMessagesSay) {
  const std::vector<CallRecord> records = {
      Failed(absl::StatusCode::kUnavailable, "", "connection reset"),
      Failed(absl::StatusCode::kResourceExhausted, "QUEUE_FULL", "QUEUE_FULL: 7 wait"),
      Failed(absl::StatusCode::kResourceExhausted, "QUEUE_FULL", "QUEUE_FULL: 8 wait"),
      Failed(absl::StatusCode::kResourceExhausted, "TOO_MANY_CALLS", "TOO_MANY_CALLS: 4096 are open"),
  };

  const Json report = LoadReport({}, records, /*seconds=*/1);

  EXPECT_EQ(report["errors"].dump(),
            R"([{"code":"RESOURCE_EXHAUSTED","reason":"QUEUE_FULL","count":2,"example":"QUEUE_FULL: 7 wait"},)"
            R"({"code":"RESOURCE_EXHAUSTED","reason":"TOO_MANY_CALLS","count":1,)"
            R"("example":"TOO_MANY_CALLS: 4096 are open"},)"
            R"({"code":"UNAVAILABLE","reason":"","count":1,"example":"connection reset"}])");
}

TEST(LoadTableTest, HasALineForEachCountTimeAndKindOfFailure) {
  const std::vector<CallRecord> records = {
      Ended(0.1, 0.5, 5, {0.1f}), Failed(absl::StatusCode::kResourceExhausted, "QUEUE_FULL", "QUEUE_FULL: 7 wait"),
      Failed(absl::StatusCode::kResourceExhausted, "QUEUE_FULL", "QUEUE_FULL: 8 wait")};

  const std::string table = LoadTable(LoadReport({.concurrency = 2, .num_requests = 3}, records, /*seconds=*/2));

  EXPECT_THAT(table, HasSubstr("num_requests                          3\n"));
  EXPECT_THAT(table, HasSubstr("requests_per_second                0.50\n"));
  EXPECT_THAT(table, HasSubstr("end_to_end                       500.00       500.00       500.00\n"));
  EXPECT_THAT(table, HasSubstr("2 x RESOURCE_EXHAUSTED, such as: QUEUE_FULL: 7 wait\n"));
  EXPECT_THAT(table, Not(HasSubstr("8 wait")));
}

}  // namespace
}  // namespace expertd
