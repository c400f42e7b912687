// /v1/completions: the request to the contract's, one for each prompt, and the contract's answers to text_completion
// objects with the log-probabilities of old, as evaluation harnesses read them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/rest_shim/sampling_json.h"
#include "engine/base/json.h"
#include "expertd/v1/inference.pb.h"

namespace expertd::rest {

inline constexpr size_t kMaxPrompts = 1024;

// One request per prompt, in order: `prompt` is a string, an array of strings, token ids, or an array of arrays of
// token ids. Not empty.
absl::StatusOr<std::vector<v1::GenerateRequest>> ReadCompletionRequests(const Json& body);

// logprobs of a choice: tokens, token_logprobs, top_logprobs, text_offset; one entry a token, offsets in characters.
class LegacyLogprobs {
 public:
  // The tokens that follow stand behind `offset` characters.
  explicit LegacyLogprobs(size_t offset = 0) : offset_(offset) {}

  // The tokens of a prompt whose log-probabilities were asked for from the first on; that one has none.
  void AddPrompt(const v1::PromptInfo& prompt);
  void Add(const v1::TokenLogprob& token);
  Json ToJson() const;

  // Characters up to the end of the last token.
  size_t offset() const { return offset_; }

 private:
  void AddEntry(const std::string& text, size_t num_characters, Json logprob, Json top);

  size_t offset_;
  Json tokens_ = Json::array(), token_logprobs_ = Json::array(), top_logprobs_ = Json::array(),
       text_offsets_ = Json::array();
};

// A whole text_completion of the answers to all prompts, in order: choices are numbered through, those of the first
// prompt first.
Json CompletionJson(std::string_view request_id, const std::vector<v1::GenerateResponse>& responses);

// A text_completion without choices: what all chunks of a stream have in common.
Json CompletionChunkJson(std::string_view request_id, const v1::Accepted& accepted);

// The choice of a chunk.
Json CompletionDeltaJson(uint32_t index, std::string text, Json logprobs);
Json CompletionEndJson(uint32_t index, std::string text, const v1::Finished& finished);

}  // namespace expertd::rest
