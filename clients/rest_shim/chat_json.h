// /v1/chat/completions: the request to the contract's, and the contract's answers to chat.completion objects.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "clients/rest_shim/json_fields.h"
#include "clients/rest_shim/sampling_json.h"
#include "engine/base/json.h"
#include "expertd/v1/inference.pb.h"

namespace expertd::rest {

// The conversation of a request's JSON: messages, tools, tool_choice, chat_template_kwargs ...
absl::StatusOr<v1::ChatInput> ReadChat(const JsonFields& fields);

absl::StatusOr<v1::GenerateRequest> ReadChatRequest(const Json& body);

// A whole chat.completion.
Json ChatCompletionJson(const v1::GenerateResponse& response);

// A chat.completion.chunk without choices: what all chunks of the stream that `accepted` begins have in common.
Json ChatChunkJson(const v1::Accepted& accepted);

// The choice of a chunk with new output. The first of a candidate names the role, so that a client measures the time to
// its first token right.
Json ChatDeltaJson(const v1::Delta& delta, bool is_first);

// The choice of a candidate's last chunk.
Json ChatEndJson(const v1::Finished& finished, bool is_first);

}  // namespace expertd::rest
