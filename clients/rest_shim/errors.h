// Errors as OpenAI's clients read them: an HTTP status, {"error": {message, type, param, code}}, and the headers that
// tell them whether to try again.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "clients/rest_shim/http_server.h"
#include "engine/base/json.h"

namespace expertd::rest {

struct RestError {
  int status = 500;
  std::string message;
  std::string param;   // the field at fault; empty: none
  std::string code;    // "context_length_exceeded"; empty: none
  std::optional<absl::Duration> retry_delay;
};

// InvalidArgument for `param`, a field of the request's JSON ("messages[0].role"); the message begins with its name.
absl::Status InvalidField(std::string_view param, std::string_view message);

// The error that `status`, which is not OK, stands for; with the param of InvalidField.
RestError RestErrorOf(const absl::Status& status);

// The error that a call's end stands for; `status` is not OK.
RestError RestErrorOf(const grpc::Status& status);

// {"error": ...}, also for the middle of a stream.
Json ErrorJson(const RestError& error);

// With `retry-after`, `retry-after-ms` and `x-should-retry` where they apply.
HttpResponse ErrorResponse(const RestError& error);

}  // namespace expertd::rest
