// How the next token is chosen and when a generation ends: plain values, validated by Request::Create.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace expertd {

// Which tokens' log-probabilities to report beside each token's own.
struct LogprobOptions {
  int top_n = 0;                    // the most likely `top_n`, 0..kMaxLogprobs
  std::vector<int32_t> token_ids;   // or just these ids; empty means top_n
  int start = 0;                    // prompt log-probabilities only: the first position to report
};

struct SamplingParams {
  float temperature = 1.0f;          // 0 (or below 1e-5): greedy
  float top_p = 1.0f;                // (0, 1]
  int32_t top_k = 0;                 // 0: off
  float min_p = 0.0f;                // [0, 1]
  float repetition_penalty = 1.0f;   // (0, 10]; divides positive and multiplies negative logits of tokens seen in
                                     // prompt or output (Hugging Face's rule)
  float presence_penalty = 0.0f;     // [-2, 2]; subtracted once from each token seen in the output
  float frequency_penalty = 0.0f;    // [-2, 2]; subtracted per occurrence in the output
  uint64_t seed = 0;                 // always set: a caller's, or drawn when the request is made
  std::vector<std::pair<int32_t, float>> logit_bias;    // added to logits; finite, [-100, 100]
  std::vector<int32_t> allowed_token_ids;               // empty: all
  std::vector<std::vector<int32_t>> bad_words;          // token sequences that must not be completed
  std::optional<LogprobOptions> logprobs;               // of generated tokens
  std::optional<LogprobOptions> prompt_logprobs;        // of prompt tokens
};

struct StopConditions {
  static constexpr int32_t kNoLimit = INT32_MAX;  // of its own: the model's length is one
  int32_t max_tokens = 0;                 // > 0 once resolved against the model's length, or kNoLimit
  int32_t min_tokens = 0;                 // no stop before this many tokens
  std::vector<std::string> strings;       // up to 16, each up to 1 KiB
  std::vector<int32_t> token_ids;         // beside the model's EOS ids
  bool include_stop_in_output = false;
  bool ignore_eos = false;
};

}  // namespace expertd
