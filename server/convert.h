// Between the contract's messages (api/) and the engine's values (engine/request): requests one way, events the other.
// Everything here is a pure function; all threads may call it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/request/generation_stream.h"
#include "engine/request/request.h"
#include "expertd/v1/control.pb.h"
#include "expertd/v1/inference.pb.h"
#include "expertd/v1/model.pb.h"

namespace expertd {

// What a request says of the answer's form; the engine need not know.
struct AnswerOptions {
  absl::Duration min_interval;           // between two Deltas of a stream
  int32_t min_tokens_per_message = 1;
  bool usage_every_message = false;
  bool timing = false;

  // Whether Deltas may have to wait though the reader is ready.
  bool holds_back() const { return min_interval > absl::ZeroDuration() || min_tokens_per_message > 1; }
};

struct ConvertedRequest {
  RequestSpec spec;                      // seed always set: drawn here when the caller gave none
  AnswerOptions answer;
  std::vector<v1::Warning> warnings;
};

// Reads `request`; values that Request::Create checks are passed on as they are, but for numbers that only the
// contract's types can hold: their errors name the same `limits`. The model's name is not looked at.
// Errors: InvalidArgument INVALID_PARAMETER with every violation found here; Unimplemented UNSUPPORTED_FEATURE naming
// the first field that asks for something this server can't do.
absl::StatusOr<ConvertedRequest> ToRequestSpec(const v1::GenerateRequest& request, const RequestLimits& limits);

// The conversation alone, for RenderChat. Errors as above, field paths from "chat" on.
absl::StatusOr<ChatInput> ToChatInput(const v1::ChatInput& chat);

// Whether `id` may be a request's id: 1..kMaxRequestIdBytes of [A-Za-z0-9._:-].
inline constexpr size_t kMaxRequestIdBytes = 128;
bool IsRequestId(std::string_view id);

// OK when `name` is empty or `served`; else NotFound MODEL_NOT_FOUND.
absl::Status CheckModelName(std::string_view name, std::string_view served);

// Events to messages. Text and vectors are moved out of `event`. `tokenizer` gives the texts of log-probabilities and
// may be null (they stay empty then). Targets are expected to be empty.
void FillPrompt(PromptEvent&& event, const Tokenizer* tokenizer, v1::PromptInfo* prompt);
void FillDelta(DeltaEvent&& event, const Tokenizer* tokenizer, v1::Delta* delta);
void FillFinished(FinishedEvent&& event, v1::Finished* finished);
void FillUsage(int32_t num_prompt_tokens, int32_t num_cached_tokens, int32_t num_output_tokens, v1::Usage* usage);
void FillUsage(const SummaryEvent& event, v1::Usage* usage);
void FillTiming(const RequestTiming& timing, absl::Duration tokenize_time, v1::Timing* proto);

// Parts of a Candidate, from the same events: appends a delta; sets the end.
void AppendDelta(DeltaEvent&& event, const Tokenizer* tokenizer, v1::Candidate* candidate);
void SetFinished(FinishedEvent&& event, v1::Candidate* candidate);

void FillModel(const EngineInfo& info, const RequestLimits& limits, bool has_tokenizer, absl::Time create_time,
               v1::Model* model);
void FillLoad(const EngineLoad& load, absl::Time time, v1::Load* proto);

}  // namespace expertd
