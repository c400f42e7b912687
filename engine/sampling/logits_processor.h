// Logits processors: what a request does to a row of logits before a token is drawn. Each is a small function over one
// row, [vocab_size]; ApplyLogitsProcessors calls them in the order in which they stand here, which is vLLM's. A masked
// token has the logit minus infinity, and no later step brings it back. Ids outside the row are ignored.
//
// Thread-safety: all are pure but for the row (and the history) they are given.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/request/sampling_params.h"
#include "engine/request/sequence.h"

namespace expertd {

// Whether a repetition, presence or frequency penalty is set, so that a TokenHistory is needed.
bool UsesPenalties(const SamplingParams& params);

// Which tokens a sequence has seen, and how often it wrote each: kept between steps so that a step costs the tokens
// that are new, not the whole length. A function of the tokens alone: rebuilt from them it is the same.
class TokenHistory {
 public:
  struct Entry {
    int32_t token = 0;
    int32_t num_outputs = 0;  // 0: in the prompt only
  };

  // Counts the tokens that were not there at the last call. `tokens` holds the prompt, then the output, and only grows.
  void CatchUp(std::span<const int32_t> tokens, int num_prompt_tokens);

  // Every token seen, once, in order of first occurrence.
  std::span<const Entry> entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
  absl::flat_hash_map<int32_t, int32_t> entry_of_token_;
  int num_counted_ = 0;
};

// Masks every token but `allowed`, unless that is empty. `scratch` is overwritten.
void ApplyAllowedTokens(std::span<const int32_t> allowed, std::span<float> logits, std::vector<float>& scratch);

// Masks the last token of each of `bad_words` whose other tokens are the last ones of `tokens` (prompt and output);
// for a single token, always.
void ApplyBadWords(std::span<const std::vector<int32_t>> bad_words, std::span<const int32_t> tokens,
                   std::span<float> logits);

// Masks every token that sequence.constraint, which is set, does not allow, and the stop tokens where the output may
// not end. `scratch` is overwritten.
void ApplyConstraint(const Sequence& sequence, std::span<float> logits, std::vector<float>& scratch);

// Masks each of `token_ids`: the stop tokens of a sequence that has not yet written min_tokens.
void MaskTokens(std::span<const int32_t> token_ids, std::span<float> logits);

// logits[id] += bias; an id named twice is added twice.
void ApplyLogitBias(std::span<const std::pair<int32_t, float>> bias, std::span<float> logits);

// Tokens of prompt and output: a positive logit is divided by `penalty` (> 0), another multiplied (Keskar et al. 2019,
// "CTRL", in the form that Hugging Face gave it).
void ApplyRepetitionPenalty(const TokenHistory& history, float penalty, std::span<float> logits);

// Tokens of the output: logits[id] -= frequency * occurrences + presence (OpenAI's rule).
void ApplyFrequencyAndPresencePenalty(const TokenHistory& history, float frequency, float presence,
                                      std::span<float> logits);

// Whether ApplyLogitsProcessors would do anything for `sequence` now.
bool HasLogitsProcessors(const Sequence& sequence);

// All of the above that `sequence` asks for. `history` may be null when no penalty is set. `scratch` is overwritten.
void ApplyLogitsProcessors(const Sequence& sequence, TokenHistory* history, std::span<float> logits,
                           std::vector<float>& scratch);

}  // namespace expertd
