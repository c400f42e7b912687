#include "server/status.h"

#include <algorithm>

#include "engine/base/strings.h"
#include "engine/base/utf8.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/time.h"

namespace expertd {
namespace {

// Together these bound the trailers to 7 KiB: base64 adds a third, and the message is sent twice, once percent-encoded.
constexpr size_t kMaxMessageBytes = 512;
constexpr size_t kMaxDetailBytes = 160;
constexpr size_t kMaxDetails = 6;
constexpr size_t kMaxNameBytes = 100;

std::string_view DefaultReason(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange: return error_reason::kInvalidParameter;
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition: return error_reason::kUnsupportedFeature;
    case absl::StatusCode::kNotFound: return error_reason::kModelNotFound;
    case absl::StatusCode::kAlreadyExists: return error_reason::kDuplicateRequestId;
    case absl::StatusCode::kResourceExhausted: return error_reason::kQueueFull;
    case absl::StatusCode::kDeadlineExceeded: return error_reason::kDeadline;
    case absl::StatusCode::kCancelled: return error_reason::kClientCancelled;
    case absl::StatusCode::kUnavailable: return error_reason::kNotReady;
    case absl::StatusCode::kUnauthenticated: return error_reason::kApiKeyInvalid;
    default: return kInternalErrorReason;
  }
}

template <typename Detail>
void AddDetail(google::rpc::Status& status, const Detail& detail) {
  status.add_details()->PackFrom(detail);  // type.googleapis.com/google.rpc....
}

void AddErrorInfo(google::rpc::Status& wire, const std::string& reason, const ErrorDetail& detail) {
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain(std::string(kErrorDomain));
  for (size_t i = 0; i < std::min(detail.metadata.size(), kMaxDetails); ++i) {
    const auto& [name, value] = detail.metadata[i];
    (*info.mutable_metadata())[ToValidUtf8(name, kMaxNameBytes)] = ToValidUtf8(value, kMaxDetailBytes);
  }
  AddDetail(wire, info);
}

void AddBadRequest(google::rpc::Status& wire, const ErrorDetail& detail) {
  google::rpc::BadRequest bad_request;
  for (size_t i = 0; i < std::min(detail.violations.size(), kMaxDetails); ++i) {
    auto* violation = bad_request.add_field_violations();
    violation->set_field(ToValidUtf8(detail.violations[i].first, kMaxNameBytes));
    violation->set_description(ToValidUtf8(detail.violations[i].second, kMaxDetailBytes));
  }
  AddDetail(wire, bad_request);
}

void AddQuotaFailure(google::rpc::Status& wire, const ErrorDetail& detail, const std::string& message) {
  google::rpc::QuotaFailure failure;
  auto* violation = failure.add_violations();
  const auto limit = std::find_if(detail.metadata.begin(), detail.metadata.end(),
                                  [](const auto& entry) { return entry.first == "limit"; });
  violation->set_subject(limit == detail.metadata.end() ? "server" : ToValidUtf8(limit->second, kMaxNameBytes));
  violation->set_description(ToValidUtf8(message, kMaxDetailBytes));
  AddDetail(wire, failure);
}

void AddResourceInfo(google::rpc::Status& wire, const ErrorDetail& detail, const std::string& message) {
  google::rpc::ResourceInfo info;
  info.set_resource_type("expertd.v1.Model");
  for (const auto& [name, value] : detail.metadata) {
    if (name == "model") info.set_resource_name(ToValidUtf8(value, kMaxDetailBytes));
  }
  info.set_description(ToValidUtf8(message, kMaxDetailBytes));
  AddDetail(wire, info);
}

}  // namespace

std::string ToValidUtf8(std::string_view text, size_t max_bytes) {
  std::string valid;
  valid.reserve(std::min(text.size(), max_bytes));
  while (!text.empty()) {
    const Utf8Scan scan = ScanUtf8(text);
    const size_t length = static_cast<size_t>(scan.num_bytes);
    const bool is_character = scan.kind == Utf8Scan::Kind::kComplete;
    const std::string_view piece = is_character ? text.substr(0, length) : kReplacementCharacter;
    if (valid.size() + piece.size() > max_bytes) break;
    valid.append(piece);
    text.remove_prefix(length);
  }
  return valid;
}

std::string ErrorReasonOf(const absl::Status& status) {
  if (status.ok()) return "";
  if (const std::optional<ErrorDetail> detail = GetErrorDetail(status); detail.has_value() && !detail->reason.empty()) {
    return detail->reason;
  }
  return std::string(DefaultReason(status.code()));
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = ToValidUtf8(ToStdView(status.message()), kMaxMessageBytes);
  const std::string reason = ErrorReasonOf(status);
  const ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail{});

  google::rpc::Status wire;
  wire.set_code(static_cast<int>(status.code()));
  wire.set_message(message);
  AddErrorInfo(wire, reason, detail);
  if (!detail.violations.empty()) AddBadRequest(wire, detail);
  if (detail.retry_delay.has_value()) {
    google::rpc::RetryInfo retry;
    *retry.mutable_retry_delay() = ToProtoDuration(*detail.retry_delay);
    AddDetail(wire, retry);
  }
  if (status.code() == absl::StatusCode::kResourceExhausted) AddQuotaFailure(wire, detail, message);
  if (reason == error_reason::kModelNotFound) AddResourceInfo(wire, detail, message);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message, wire.SerializeAsString());
}

absl::Status UnsupportedFeature(std::string_view field, std::string_view message) {
  ErrorDetail detail{.reason = std::string(error_reason::kUnsupportedFeature)};
  detail.violations.emplace_back(field, message);
  detail.metadata.emplace_back("field", field);
  return MakeError(absl::StatusCode::kUnimplemented, StrCat(field, ": ", message), detail);
}

absl::Status InvalidParameter(std::string_view field, std::string_view message) {
  ErrorDetail detail{.reason = std::string(error_reason::kInvalidParameter)};
  detail.violations.emplace_back(field, message);
  return MakeError(absl::StatusCode::kInvalidArgument, StrCat(field, " ", message), detail);
}

absl::Status ModelNotFound(std::string_view wanted, std::string_view served) {
  const std::string name = ToValidUtf8(wanted, kMaxDetailBytes);
  ErrorDetail detail{.reason = std::string(error_reason::kModelNotFound)};
  detail.metadata = {{"model", name}, {"served", std::string(served)}};
  return MakeError(absl::StatusCode::kNotFound,
                   StrCat("the model '", name, "' is not served here; '", served, "' is"), detail);
}

}  // namespace expertd
