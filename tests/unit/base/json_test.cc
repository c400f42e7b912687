#include "engine/base/json.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include <gtest/gtest.h>

#include "engine/base/strings.h"

namespace expertd {
namespace {

TEST(JsonTest, KeepsTheOrderOfKeys) {
  const absl::StatusOr<Json> json = ParseJson(R"({"z": 1, "a": 2})");

  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->dump(), R"({"z":1,"a":2})");
}

TEST(JsonTest, AKeyGivenTwiceKeepsItsPlaceAndItsLastValue) {
  EXPECT_EQ(ParseJson(R"({"a": 1, "b": 2, "a": 3})")->dump(), R"({"a":3,"b":2})");
}

TEST(JsonTest, ReadsAnObjectOfManyMembers) {
  constexpr int kNumMembers = 200'000;
  std::string text = "{";
  for (int i = 0; i < kNumMembers; ++i) StrAppend(&text, "\"model.layers.", i, ".weight\":", i, ",");
  text += R"("model.layers.7.weight":-7})";

  const absl::StatusOr<Json> json = ParseJson(text);

  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->size(), kNumMembers);
  EXPECT_EQ(json->begin().key(), "model.layers.0.weight");
  EXPECT_EQ(*JsonFind(*json, "model.layers.199999.weight"), 199'999);
  EXPECT_EQ(*JsonFind(*json, "model.layers.7.weight"), -7);
  EXPECT_EQ(JsonFind(*json, "model.layers.200000.weight"), nullptr);
}

TEST(JsonTest, QuotesLittleOfMalformedText) {
  const absl::Status status = ParseJson("[\"" + std::string(100'000, 'x')).status();

  EXPECT_LT(status.message().size(), 300u);
}

TEST(JsonTest, RefusesDeepNestingBeforeParsing) {
  const std::string deep(100000, '[');

  const absl::StatusOr<Json> json = ParseJson(deep);

  EXPECT_EQ(json.status().message(), "JSON is nested 100000 deep; at most 64");
}

TEST(JsonTest, DoesNotCountBracketsInsideStrings) {
  EXPECT_TRUE(ParseJson("\"" + std::string(1000, '[') + "\\\"[\"").ok());
}

TEST(JsonTest, ReportsMalformedText) {
  EXPECT_EQ(ParseJson("{\"a\": }").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseJson("").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(JsonTest, NamesTheByteAndTheFaultInPlainWords) {
  EXPECT_EQ(
      ParseJson("{\"a\": 1,,}").status().message(),
      "not valid JSON at byte 9: syntax error while parsing object key - unexpected ','; expected string literal");
}

TEST(JsonTest, ErrorsHoldNoNameOfTheLibraryAndOnlyUtf8) {
  EXPECT_EQ(ParseJson("[1e999]").status().message(), "not valid JSON: number overflow parsing '1e999'");
  EXPECT_EQ(ParseJson("[\"a\xff\"]").status().message(),
            "not valid JSON at byte 4: syntax error while parsing value - invalid string: ill-formed UTF-8 byte; last "
            "read: '\"a");
}

TEST(JsonTest, DumpsWhatIsNotUtf8) {
  EXPECT_EQ(DumpJson({{"a", "b\xff"}}), "{\"a\":\"b\xEF\xBF\xBD\"}");
}

TEST(JsonTest, ReadsIntegersWithinTheirRange) {
  const Json object = *ParseJson(R"({"a": 5, "b": 5.5, "c": 18446744073709551615, "d": null, "e": "5"})");

  EXPECT_EQ(*JsonInt(object, "a", 0, 10), 5);
  EXPECT_EQ(JsonInt(object, "a", 6, 10).status().message(), "a is 5; must be an integer in 6..10");
  EXPECT_FALSE(JsonInt(object, "b", 0, 10).ok());
  EXPECT_FALSE(JsonInt(object, "c", 0, INT64_MAX).ok());
  EXPECT_EQ(JsonInt(object, "d", 0, 10).status().message(), "d is missing");
  EXPECT_EQ(*JsonIntOr(object, "d", 7, 0, 10), 7);
  EXPECT_FALSE(JsonInt(object, "e", 0, 10).ok());
}

TEST(JsonTest, ReadsNumbersBooleansAndStrings) {
  const Json object = *ParseJson(R"({"n": 0.5, "t": true, "s": "x"})");

  EXPECT_EQ(*JsonNumberOr(object, "n", 1.0, 0.0, 1.0), 0.5);
  EXPECT_FALSE(JsonNumberOr(object, "n", 1.0, 0.6, 1.0).ok());
  EXPECT_EQ(*JsonBoolOr(object, "t", false), true);
  EXPECT_FALSE(JsonBoolOr(object, "n", false).ok());
  EXPECT_EQ(*JsonStringOr(object, "s", ""), "x");
  EXPECT_EQ(*JsonStringOr(object, "missing", "fallback"), "fallback");
}

TEST(JsonTest, NamesTheFileThatIsWrong) {
  const std::string path = ::testing::TempDir() + "/json_test_bad.json";
  std::ofstream(path) << "{";

  EXPECT_NE(ReadJsonFile(path).status().message().find(path), absl::string_view::npos);
  EXPECT_EQ(ReadJsonFile(path + ".none").status().code(), absl::StatusCode::kNotFound);
}

TEST(JsonTest, RefusesAPipeInsteadOfWaitingForIt) {
  const std::string path = ::testing::TempDir() + "/json_test_pipe";
  unlink(path.c_str());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);

  EXPECT_EQ(ReadJsonFile(path).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(JsonTest, RefusesFilesAboveTheLimit) {
  const std::string path = ::testing::TempDir() + "/json_test_large.json";
  std::ofstream(path) << std::string(100, ' ') << "1";

  EXPECT_EQ(ReadJsonFile(path, 50).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace expertd
