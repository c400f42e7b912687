#include "clients/cpp/client.h"

#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace expertd {
namespace {

// A status as the server sends it, with an ErrorInfo.
grpc::Status WithReason(grpc::StatusCode code, const std::string& message, const std::string& reason) {
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  google::rpc::Status details;
  details.add_details()->PackFrom(google::rpc::RetryInfo());
  details.add_details()->PackFrom(info);
  return grpc::Status(code, message, details.SerializeAsString());
}

TEST(ClientTest, ErrorsBeginWithTheReason) {
  const grpc::Status status = WithReason(grpc::StatusCode::RESOURCE_EXHAUSTED, "2048 requests wait", "QUEUE_FULL");

  EXPECT_EQ(ErrorReason(status), "QUEUE_FULL");
  EXPECT_EQ(FromGrpc(status).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(FromGrpc(status).message(), "QUEUE_FULL: 2048 requests wait");
}

TEST(ClientTest, ErrorsWithoutAReasonAreTheServersWords) {
  const grpc::Status status(grpc::StatusCode::UNAVAILABLE, "connection reset");

  EXPECT_EQ(ErrorReason(status), "");
  EXPECT_EQ(FromGrpc(status).message(), "connection reset");
}

TEST(ClientTest, ErrorsWithoutAMessageNameTheCode) {
  EXPECT_EQ(FromGrpc(grpc::Status(grpc::StatusCode::INTERNAL, "")).message(), "INTERNAL, and the server says no more");
  EXPECT_EQ(FromGrpc(WithReason(grpc::StatusCode::UNAVAILABLE, "", "DRAINING")).message(),
            "DRAINING: UNAVAILABLE, and the server says no more");
}

TEST(ClientTest, ErrorsCannotSteerATerminal) {
  EXPECT_EQ(FromGrpc(grpc::Status(grpc::StatusCode::INTERNAL, "a\x1b[2Jb")).message(), "a[2Jb");
}

TEST(ClientTest, NoErrorIsOk) { EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok()); }

}  // namespace
}  // namespace expertd
