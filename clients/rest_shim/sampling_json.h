// The fields that chat and text completions share: which model, how tokens are chosen, when to stop.
#pragma once

#include "absl/status/status.h"
#include "clients/rest_shim/json_fields.h"
#include "expertd/v1/inference.pb.h"

namespace expertd::rest {

// `stream` and `stream_options`.
struct StreamChoice {
  bool is_stream = false;
  bool include_usage = false;     // a last chunk with the usage
  bool continuous_usage = false;  // the usage so far in each chunk
};

// Reads the shared fields into `request`. Values are checked by the server, types here. Fields that are not known are
// left aside, as OpenAI's own clients send new ones; those that would change the output and can't be honoured are
// errors.
absl::Status ReadSharedFields(const JsonFields& fields, v1::GenerateRequest& request);

absl::StatusOr<StreamChoice> ReadStreamChoice(const JsonFields& fields);

}  // namespace expertd::rest
