// Between gRPC's bytes and the contract's messages: the one place that parses what callers send, and the one that
// writes answers. The services take gRPC's raw methods, since what gRPC itself can't parse, or finds too large, it
// answers without our details, and nobody counts it.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "server/byte_budget.h"

namespace expertd {

// Reads `bytes`, plain or compressed (gzip, deflate), into `message`. Peak memory is bounded by `max_bytes` and the
// limits of wire_check.h, however well the bytes were compressed. Errors: InvalidArgument INVALID_PARAMETER, with the
// field where one is known; ResourceExhausted MESSAGE_TOO_LARGE.
absl::Status ReadMessage(grpc::ByteBuffer bytes, size_t max_bytes, google::protobuf::Message* message);

// Writes `message` into `bytes`. ResourceExhausted MESSAGE_TOO_LARGE.
absl::Status WriteMessage(const google::protobuf::Message& message, size_t max_bytes, grpc::ByteBuffer* bytes);
// A message that is known to be small.
grpc::ByteBuffer WriteMessage(const google::protobuf::Message& message);

// A call's request from its arrival until it is read: the bytes, and their share of the budget. Movable.
class HeldRequest {
 public:
  HeldRequest() = default;
  HeldRequest(grpc::ByteBuffer bytes, ByteBudget::Share share, size_t max_bytes)
      : bytes_(std::move(bytes)), share_(std::move(share)), max_bytes_(max_bytes) {}

  // Whether to read it may take long enough to hold up others; told by the size alone.
  bool may_be_large() const;

  // Once. The share is kept as long as this object: what was read holds as much. Errors as ReadMessage's.
  absl::Status Read(google::protobuf::Message* message) { return ReadMessage(TakeBytes(), max_bytes_, message); }
  // As above, with a limit of the method's own.
  absl::Status Read(google::protobuf::Message* message, size_t max_bytes) {
    return ReadMessage(TakeBytes(), std::min(max_bytes, max_bytes_), message);
  }

 private:
  grpc::ByteBuffer TakeBytes() {
    grpc::ByteBuffer bytes;
    bytes.Swap(&bytes_);
    return bytes;
  }

  grpc::ByteBuffer bytes_;
  ByteBudget::Share share_;
  size_t max_bytes_ = 0;
};

// ResourceExhausted MESSAGE_TOO_LARGE. `what` is "request" or "answer".
absl::Status MessageTooLarge(std::string_view what, size_t max_bytes);

}  // namespace expertd
