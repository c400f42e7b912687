#include "clients/cpp/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace expertd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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

// What Connect says of a file with `text` that is given as `flag`; nothing listens at the target.
std::string ConnectError(std::string ClientOptions::*flag, const std::string& text) {
  const std::string path = testing::TempDir() + "/client_test_file";
  std::ofstream(path, std::ios::binary) << text;
  ClientOptions options;
  options.target = "unix:" + testing::TempDir() + "/no_server";
  options.wait_ready_seconds = 0;
  options.*flag = path;
  const std::string message(Client::Connect(options).status().message());
  std::remove(path.c_str());
  return message;
}

TEST(ClientTest, RefusesKeysThatCannotBeSentAndDoesNotShowThem) {
  for (const std::string key : {"secret\x01", "secr\xc3\xa9t", "a secret"}) {
    const std::string message = ConnectError(&ClientOptions::api_key_file, "# the key\n" + key + "\n");

    EXPECT_THAT(message, HasSubstr("is not printable ASCII"));
    EXPECT_THAT(message, Not(HasSubstr("secr")));
  }
  EXPECT_THAT(ConnectError(&ClientOptions::api_key_file, "# no key\n"), HasSubstr("holds no key"));
  EXPECT_THAT(ConnectError(&ClientOptions::api_key_file, "# Ada's\n  key  # of 2026\r\n"), HasSubstr("no server answers"));
}

TEST(ClientTest, DoesNotFallBackToTheSystemsAuthorities) {
  EXPECT_THAT(ConnectError(&ClientOptions::tls_ca_file, ""), HasSubstr("holds nothing"));
}

TEST(ClientTest, FilesThatAreMissingAreNamedWithTheirFlag) {
  ClientOptions options;
  options.api_key_file = "/nowhere/key";

  EXPECT_EQ(Client::Connect(options).status().message(), "--api-key-file /nowhere/key cannot be opened");
}

TEST(ClientTest, NoErrorIsOk) { EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok()); }

}  // namespace
}  // namespace expertd
