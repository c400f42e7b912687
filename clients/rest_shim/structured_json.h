// What a body says of the form of the output: OpenAI's `response_format`, vLLM's `structured_outputs` and `guided_*`.
#pragma once

#include "absl/status/status.h"
#include "clients/rest_shim/json_fields.h"
#include "expertd/v1/inference.pb.h"

namespace expertd::rest {

// Sets request.structured when the body asks for a form. Errors: InvalidArgument naming the field, for one that is not
// well-formed and for two at once.
absl::Status ReadStructured(const JsonFields& fields, v1::GenerateRequest& request);

}  // namespace expertd::rest
