#include "clients/rest_shim/answer_json.h"

#include <utility>

namespace expertd::rest {

std::string_view FinishReasonText(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
    case v1::FINISH_REASON_STOP_SEQUENCE: return "stop";
    case v1::FINISH_REASON_TOOL_CALLS: return "tool_calls";
    default: return "length";  // the output is not whole, whatever cut it off
  }
}

Json StopReasonJson(const v1::StopMatch& match) {
  if (match.match_case() == v1::StopMatch::kText) return Json(match.text());
  if (match.match_case() == v1::StopMatch::kTokenId) return Json(match.token_id());
  return Json();
}

Json UsageJson(const v1::Usage& usage) {
  Json prompt_details, completion_details;
  prompt_details["cached_tokens"] = usage.cached_prompt_tokens();
  completion_details["reasoning_tokens"] = usage.reasoning_tokens();
  Json json;
  json["prompt_tokens"] = usage.prompt_tokens();
  json["completion_tokens"] = usage.completion_tokens();
  json["total_tokens"] = usage.total_tokens();
  json["prompt_tokens_details"] = std::move(prompt_details);
  json["completion_tokens_details"] = std::move(completion_details);
  return json;
}

void AddUsage(const v1::Usage& more, v1::Usage& sum) {
  sum.set_prompt_tokens(sum.prompt_tokens() + more.prompt_tokens());
  sum.set_completion_tokens(sum.completion_tokens() + more.completion_tokens());
  sum.set_total_tokens(sum.total_tokens() + more.total_tokens());
  sum.set_cached_prompt_tokens(sum.cached_prompt_tokens() + more.cached_prompt_tokens());
  sum.set_reasoning_tokens(sum.reasoning_tokens() + more.reasoning_tokens());
}

Json BytesJson(std::string_view bytes) {
  Json array = Json::array();
  for (const char byte : bytes) array.push_back(static_cast<unsigned char>(byte));
  return array;
}

}  // namespace expertd::rest
