#include "server/message.h"

#include <google/protobuf/io/gzip_stream.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/proto_buffer_writer.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/request/errors.h"
#include "server/status.h"
#include "server/wire_check.h"

namespace expertd {
namespace {

constexpr size_t kLargeBytes = 256 << 10;
// The most that deflate can make of a byte (RFC 1951: 258 bytes in 2 bits).
constexpr size_t kMostBytesPerByte = 1032;

// Tells whether the bytes are compressed; gRPC's C++ classes keep it to themselves.
class ByteReader final : public grpc::ProtoBufferReader {
 public:
  explicit ByteReader(grpc::ByteBuffer* bytes) : grpc::ProtoBufferReader(bytes) {}

  bool is_compressed() { return reader()->buffer_in->data.raw.compression != GRPC_COMPRESS_NONE; }
};

// Unpacked, and in one piece; the bytes themselves are given up.
absl::StatusOr<std::string> Unpack(grpc::ByteBuffer bytes, size_t max_bytes) {
  std::string text;
  if (bytes.Length() == 0) return text;
  ByteReader reader(&bytes);
  std::optional<google::protobuf::io::GzipInputStream> inflated;
  google::protobuf::io::ZeroCopyInputStream* input = &reader;
  if (reader.is_compressed()) {
    input = &inflated.emplace(&reader);  // knows gzip and deflate by their heads
  } else {
    text.reserve(bytes.Length());
  }
  const void* data;
  int size;
  while (input->Next(&data, &size)) {
    if (text.size() + static_cast<size_t>(size) > max_bytes) {
      return MessageTooLarge("request", max_bytes);
    }
    text.append(static_cast<const char*>(data), static_cast<size_t>(size));
  }
  if (inflated.has_value() && inflated->ZlibErrorCode() < 0) {
    return MakeError(absl::StatusCode::kInvalidArgument, "the request's compressed bytes are damaged",
                     {.reason = std::string(error_reason::kInvalidParameter)});
  }
  return text;
}

}  // namespace

absl::Status ReadMessage(grpc::ByteBuffer bytes, size_t max_bytes, google::protobuf::Message* message) {
  ASSIGN_OR_RETURN(const std::string text, Unpack(std::move(bytes), max_bytes));
  RETURN_IF_ERROR(CheckWire(*message->GetDescriptor(), text));
  if (message->ParseFromArray(text.data(), static_cast<int>(text.size()))) return absl::OkStatus();
  return MakeError(absl::StatusCode::kInvalidArgument,
                   StrCat("the request is not a well-formed ", message->GetDescriptor()->name()),
                   {.reason = std::string(error_reason::kInvalidParameter)});
}

grpc::ByteBuffer WriteMessage(const google::protobuf::Message& message) {
  grpc::ByteBuffer bytes;
  bool is_own;
  const grpc::Status status =
      grpc::GenericSerialize<grpc::ProtoBufferWriter, google::protobuf::Message>(message, &bytes, &is_own);
  EXPERTD_CHECK(status.ok(), status.error_message());
  return bytes;
}

absl::Status WriteMessage(const google::protobuf::Message& message, size_t max_bytes, grpc::ByteBuffer* bytes) {
  if (message.ByteSizeLong() > max_bytes) return MessageTooLarge("answer", max_bytes);
  *bytes = WriteMessage(message);
  return absl::OkStatus();
}

bool HeldRequest::may_be_large() const {
  const size_t length = bytes_.Length();
  if (length > kLargeBytes) return true;
  grpc::ByteBuffer same = bytes_;
  return length * kMostBytesPerByte > kLargeBytes && ByteReader(&same).is_compressed();
}

absl::Status MessageTooLarge(std::string_view what, size_t max_bytes) {
  ErrorDetail detail{.reason = std::string(error_reason::kMessageTooLarge)};
  detail.metadata = {{"limit", StrCat(what, "-bytes")}, {"maximum", StrCat(max_bytes)}};
  return MakeError(absl::StatusCode::kResourceExhausted,
                   StrCat("the ", what, " is larger than ", max_bytes, " bytes, the server's limit"), detail);
}

}  // namespace expertd
