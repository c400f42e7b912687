#include "clients/rest_shim/errors.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/cord.h"
#include "clients/rest_shim/field_names.h"
#include "engine/base/strings.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace expertd::rest {
namespace {

constexpr std::string_view kParamPayload = "param";

// What a status says beside its code and message.
struct Details {
  std::string reason, field;
  std::optional<absl::Duration> retry_delay;
};

Details DetailsOf(const grpc::Status& status) {
  Details details;
  google::rpc::Status wire;
  if (!wire.ParseFromString(status.error_details())) return details;
  for (const google::protobuf::Any& detail : wire.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info)) {
      details.reason = info.reason();
    } else if (detail.UnpackTo(&bad_request)) {
      if (bad_request.field_violations_size() > 0) details.field = bad_request.field_violations(0).field();
    } else if (detail.UnpackTo(&retry)) {
      details.retry_delay =
          absl::Seconds(retry.retry_delay().seconds()) + absl::Nanoseconds(retry.retry_delay().nanos());
    }
  }
  return details;
}

int HttpStatusOf(const grpc::Status& status, std::string_view reason) {
  switch (status.error_code()) {
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::OUT_OF_RANGE:
    case grpc::StatusCode::UNIMPLEMENTED:
    case grpc::StatusCode::FAILED_PRECONDITION: return 400;
    // Not 409, which OpenAI's clients send again.
    case grpc::StatusCode::ALREADY_EXISTS: return 400;
    case grpc::StatusCode::NOT_FOUND: return 404;
    case grpc::StatusCode::UNAUTHENTICATED: return 401;
    case grpc::StatusCode::PERMISSION_DENIED: return 403;
    // Without a reason it is gRPC's own: a message that is too large.
    case grpc::StatusCode::RESOURCE_EXHAUSTED: return reason.empty() || reason == "MESSAGE_TOO_LARGE" ? 413 : 429;
    case grpc::StatusCode::DEADLINE_EXCEEDED: return reason == "QUEUE_TIMEOUT" ? 503 : 504;
    // Without a reason it is gRPC's own: the server begins to stop.
    case grpc::StatusCode::CANCELLED: return reason.empty() ? 503 : 499;
    case grpc::StatusCode::UNAVAILABLE: return 503;
    default: return 500;
  }
}

std::string_view TypeOf(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    default: return status < 500 ? "invalid_request_error" : "server_error";
  }
}

// OpenAI's own codes where it has one; else ours in lower case ("QUEUE_FULL": "queue_full").
std::string CodeOf(std::string_view reason) {
  if (reason == "API_KEY_INVALID") return "invalid_api_key";
  std::string code(reason);
  std::transform(code.begin(), code.end(), code.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return code;
}

// The server's messages begin with the contract's name of the field at fault.
std::string MessageOf(const grpc::Status& status, std::string_view field, std::string_view rest_name) {
  const std::string& message = status.error_message();
  if (message.empty()) return "the server says no more";
  if (field.empty() || !message.starts_with(field)) return message;
  return StrCat(rest_name, std::string_view(message).substr(field.size()));
}

// Some clients show nothing of an error but the reason in its status line.
std::string ReasonPhrase(std::string_view message) {
  constexpr size_t kMaxBytes = 120;
  std::string reason(message.substr(0, kMaxBytes));
  for (char& c : reason) {
    if (c < ' ' || c > '~') c = '?';
  }
  return reason;
}

}  // namespace

absl::Status InvalidField(std::string_view param, std::string_view message) {
  absl::Status status = absl::InvalidArgumentError(StrCat(param, " ", message));
  status.SetPayload(ToAbslView(kParamPayload), absl::Cord(ToAbslView(param)));
  return status;
}

RestError RestErrorOf(const absl::Status& status) {
  RestError error;
  error.status = status.code() == absl::StatusCode::kInvalidArgument ? 400 : 500;
  error.message = std::string(status.message());
  if (const auto param = status.GetPayload(ToAbslView(kParamPayload)); param.has_value()) {
    error.param = std::string(*param);
  }
  error.code = error.status == 400 ? "invalid_parameter" : "internal_error";
  return error;
}

RestError RestErrorOf(const grpc::Status& status) {
  const Details details = DetailsOf(status);
  RestError error;
  error.status = HttpStatusOf(status, details.reason);
  error.param = RestNameOf(details.field);
  error.message = MessageOf(status, details.field, error.param);
  error.code = CodeOf(details.reason);
  error.retry_delay = details.retry_delay;
  return error;
}

Json ErrorJson(const RestError& error) {
  Json body;
  body["message"] = error.message;
  body["type"] = std::string(TypeOf(error.status));
  body["param"] = error.param.empty() ? Json() : Json(error.param);
  body["code"] = error.code.empty() ? Json() : Json(error.code);
  Json json;
  json["error"] = std::move(body);
  return json;
}

HttpResponse ErrorResponse(const RestError& error) {
  HttpResponse response;
  response.status = error.status;
  response.reason = ReasonPhrase(error.message);
  response.body = DumpJson(ErrorJson(error));
  if (error.retry_delay.has_value()) {
    const double seconds = std::max(0.0, absl::ToDoubleSeconds(*error.retry_delay));
    response.headers.emplace_back("retry-after", StrCat(static_cast<int64_t>(std::ceil(seconds))));
    response.headers.emplace_back("retry-after-ms", StrCat(static_cast<int64_t>(std::ceil(seconds * 1000))));
  } else if (error.status == 500 || error.status == 504) {
    // OpenAI's clients try again after any status from 500 on; the same request would fail again.
    response.headers.emplace_back("x-should-retry", "false");
  }
  return response;
}

}  // namespace expertd::rest
