// What the answers of chat and text completions have in common.
#pragma once

#include <cmath>
#include <string>
#include <string_view>

#include "engine/base/json.h"
#include "engine/base/strings.h"
#include "expertd/v1/inference.pb.h"

namespace expertd::rest {

// id, object, created, model and system_fingerprint of a GenerateResponse, or of the Accepted that begins a stream.
template <typename Answer>
Json AnswerHead(std::string_view id_prefix, std::string_view object, const Answer& answer) {
  Json json;
  json["id"] = StrCat(id_prefix, answer.id());
  json["object"] = std::string(object);
  json["created"] = answer.create_time().seconds();
  json["model"] = answer.model();
  json["system_fingerprint"] = answer.system_fingerprint();
  return json;
}

// OpenAI's word for why a candidate ended: "stop", "length" or "tool_calls".
std::string_view FinishReasonText(v1::FinishReason reason);

// The stop text or stop token of the caller that ended a candidate, as vLLM tells it; null for any other end.
Json StopReasonJson(const v1::StopMatch& match);

// finish_reason and stop_reason of a Candidate or of Finished.
template <typename End>
void AddFinish(const End& end, Json& choice) {
  choice["finish_reason"] = std::string(FinishReasonText(end.finish_reason()));
  choice["stop_reason"] = StopReasonJson(end.stop_match());
}

Json UsageJson(const v1::Usage& usage);

// Adds `more` to `sum`, for answers of several prompts.
void AddUsage(const v1::Usage& more, v1::Usage& sum);

// JSON has no infinities: a token that can't come has -9999, as OpenAI's answers have it.
inline Json LogprobJson(float logprob) { return std::isfinite(logprob) ? Json(logprob) : Json(-9999.0); }

// The bytes as an array of numbers.
Json BytesJson(std::string_view bytes);

}  // namespace expertd::rest
