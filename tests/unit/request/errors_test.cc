#include "engine/request/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace expertd {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(ErrorsTest, AStatusCarriesItsDetail) {
  const absl::Status status = MakeError(absl::StatusCode::kResourceExhausted, "the queue is full",
                                        {.reason = "QUEUE_FULL",
                                         .metadata = {{"limit", "2048"}, {"kind", "requests"}},
                                         .violations = {{"stop.max_tokens", "is 0; must be 1 or more"}},
                                         .retry_delay = absl::Milliseconds(1500)});

  const std::optional<ErrorDetail> detail = GetErrorDetail(status);

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "the queue is full");
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->reason, "QUEUE_FULL");
  EXPECT_THAT(detail->metadata, ElementsAre(Pair("limit", "2048"), Pair("kind", "requests")));
  EXPECT_THAT(detail->violations, ElementsAre(Pair("stop.max_tokens", "is 0; must be 1 or more")));
  EXPECT_EQ(detail->retry_delay, absl::Milliseconds(1500));
}

TEST(ErrorsTest, AbsentPartsStayAbsent) {
  const absl::Status status = MakeError(absl::StatusCode::kCancelled, "", {.reason = "CLIENT_CANCELLED"});

  const std::optional<ErrorDetail> detail = GetErrorDetail(status);

  ASSERT_TRUE(detail.has_value());
  EXPECT_THAT(detail->metadata, IsEmpty());
  EXPECT_THAT(detail->violations, IsEmpty());
  EXPECT_FALSE(detail->retry_delay.has_value());
}

TEST(ErrorsTest, AnotherStatusHasNoDetail) {
  EXPECT_FALSE(GetErrorDetail(absl::InternalError("boom")).has_value());
  EXPECT_FALSE(GetErrorDetail(absl::OkStatus()).has_value());
}

TEST(ErrorsTest, BytesOfACallerSurviveOrAreReplaced) {
  const absl::Status status =
      MakeError(absl::StatusCode::kInvalidArgument, "x", {.reason = "R", .metadata = {{"text", "\xFF\"\n{[\\"}}});

  const std::optional<ErrorDetail> detail = GetErrorDetail(status);

  ASSERT_TRUE(detail.has_value());
  EXPECT_THAT(detail->metadata, ElementsAre(Pair("text", "\xEF\xBF\xBD\"\n{[\\")));
}

}  // namespace
}  // namespace expertd
