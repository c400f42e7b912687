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

// A file with `text`, which lives as long as this object.
class TextFile {
 public:
  explicit TextFile(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }
  ~TextFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  const std::string path_ = testing::TempDir() + "/expertd_client_test_file";
};

absl::StatusOr<std::string> KeyOfFile(const std::string& text) {
  const TextFile file(text);
  ClientOptions options;
  options.api_key_file = file.path();
  return FindApiKey(options);
}

TEST(ClientTest, TakesTheFirstKeyOfAFileWithoutItsComment) {
  EXPECT_EQ(*KeyOfFile("# Ada's\n\n  key  # of 2026\r\nother\n"), "key");
  EXPECT_THAT(std::string(KeyOfFile("# no key\n").status().message()), HasSubstr("holds no key"));
}

TEST(ClientTest, RefusesKeysThatCannotBeSentAndDoesNotShowThem) {
  for (const std::string key : {"secret\x01", "secr\xc3\xa9t", "a secret"}) {
    const std::string message(KeyOfFile(key).status().message());

    EXPECT_THAT(message, HasSubstr("is not printable ASCII"));
    EXPECT_THAT(message, Not(HasSubstr("secr")));
  }
}

TEST(ClientTest, DoesNotFallBackToTheSystemsAuthorities) {
  const TextFile empty("");
  ClientOptions options;
  options.tls_ca_file = empty.path();

  EXPECT_THAT(std::string(Client::Connect(options).status().message()), HasSubstr("holds nothing"));
}

TEST(ClientTest, FilesThatAreMissingAreNamedWithTheirFlag) {
  ClientOptions options;
  options.api_key_file = "/nowhere/key";

  EXPECT_EQ(FindApiKey(options).status().message(), "--api-key-file /nowhere/key cannot be opened");
}

TEST(ClientTest, NoErrorIsOk) { EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok()); }

}  // namespace
}  // namespace expertd
