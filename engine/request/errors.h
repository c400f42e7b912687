// Errors that callers tell apart: a canonical code, a reason in capitals (`QUEUE_FULL`) and facts about it, carried as
// payloads of an absl::Status from where the error is born to the edge that puts it on the wire. The table of reasons
// and codes is the contract's (api/expertd/v1/errors in README and the protos' comments).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace expertd {

namespace error_reason {
inline constexpr std::string_view kInvalidParameter = "INVALID_PARAMETER";
inline constexpr std::string_view kInvalidConstraint = "INVALID_CONSTRAINT";
inline constexpr std::string_view kContextLengthExceeded = "CONTEXT_LENGTH_EXCEEDED";
inline constexpr std::string_view kUnsupportedFeature = "UNSUPPORTED_FEATURE";
inline constexpr std::string_view kModelNotFound = "MODEL_NOT_FOUND";
inline constexpr std::string_view kDuplicateRequestId = "DUPLICATE_REQUEST_ID";
inline constexpr std::string_view kQueueFull = "QUEUE_FULL";
inline constexpr std::string_view kTooManyCalls = "TOO_MANY_CALLS";
inline constexpr std::string_view kTooManyBytes = "TOO_MANY_BYTES";
inline constexpr std::string_view kMessageTooLarge = "MESSAGE_TOO_LARGE";
inline constexpr std::string_view kQueueTimeout = "QUEUE_TIMEOUT";
inline constexpr std::string_view kDeadline = "DEADLINE";
inline constexpr std::string_view kClientCancelled = "CLIENT_CANCELLED";
inline constexpr std::string_view kAbortedByAdmin = "ABORTED_BY_ADMIN";
inline constexpr std::string_view kNotReady = "NOT_READY";
inline constexpr std::string_view kDraining = "DRAINING";
inline constexpr std::string_view kSlowConsumer = "SLOW_CONSUMER";
inline constexpr std::string_view kEngineFailure = "ENGINE_FAILURE";
inline constexpr std::string_view kApiKeyInvalid = "API_KEY_INVALID";
}  // namespace error_reason

struct ErrorDetail {
  std::string reason;                                          // one of error_reason
  std::vector<std::pair<std::string, std::string>> metadata;   // lowerCamelCase names
  std::vector<std::pair<std::string, std::string>> violations; // field path, description
  std::optional<absl::Duration> retry_delay;                   // when a retry may help
};

// A status with its detail attached.
absl::Status MakeError(absl::StatusCode code, std::string_view message, const ErrorDetail& detail);

// The detail that MakeError attached, if any.
std::optional<ErrorDetail> GetErrorDetail(const absl::Status& status);

}  // namespace expertd
