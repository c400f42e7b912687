// absl::Status with its ErrorDetail to grpc::Status with google.rpc.Status in grpc-status-details-bin.
#pragma once

#include <grpcpp/support/status.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "engine/request/errors.h"

namespace expertd {

inline constexpr std::string_view kErrorDomain = "expertd.inference";
// The reason of faults of our own that concern one call alone.
inline constexpr std::string_view kInternalErrorReason = "INTERNAL_ERROR";

// The reason that goes on the wire for `status`: its detail's, else the one its code suggests. Empty for OK.
std::string ErrorReasonOf(const absl::Status& status);

// Codes are kept one to one. Details: always ErrorInfo; BadRequest for violations; RetryInfo for a retry delay;
// QuotaFailure for RESOURCE_EXHAUSTED; ResourceInfo for MODEL_NOT_FOUND. Texts are cut so that the trailers fit the
// 8 KiB of metadata that clients accept.
grpc::Status ToGrpcStatus(const absl::Status& status);

// Short forms for the errors that the server itself makes.
absl::Status UnsupportedFeature(std::string_view field, std::string_view message);
absl::Status InvalidParameter(std::string_view field, std::string_view message);
absl::Status ModelNotFound(std::string_view wanted, std::string_view served);

// `text` with what isn't UTF-8 replaced by U+FFFD, and cut to at most `max_bytes` at a character's edge.
std::string ToValidUtf8(std::string_view text, size_t max_bytes = std::string_view::npos);

}  // namespace expertd
