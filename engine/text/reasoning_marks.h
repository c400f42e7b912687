// Where a model's output is reasoning and where it is the answer: told by two tokens of its vocabulary. Used by the
// output side to count.
#pragma once

#include <optional>
#include <span>

#include "engine/text/tokenizer.h"

namespace expertd {

struct ReasoningMarks {
  TokenId open;
  TokenId close;

  friend bool operator==(const ReasoningMarks&, const ReasoningMarks&) = default;
};

// The marks that `tokenizer` has as tokens: `<think>` and `</think>` (DeepSeek, Qwen3), else `[unused16]` and
// `[unused17]` (Pangu); nullopt for a model that doesn't reason aloud.
std::optional<ReasoningMarks> FindReasoningMarks(const Tokenizer& tokenizer);

// Whether a prompt has opened reasoning for the model, as R1's template does: it ends with the opening mark and perhaps
// ASCII blanks. A mark earlier in the text is somebody's words.
bool EndsInReasoning(const Tokenizer& tokenizer, const ReasoningMarks& marks, std::span<const TokenId> prompt);

// Whether a prompt has closed reasoning for the model, as templates do where thinking is off: it ends with the closing
// mark and perhaps ASCII blanks.
bool EndsBehindReasoning(const Tokenizer& tokenizer, const ReasoningMarks& marks, std::span<const TokenId> prompt);

// Tokens of `output` between the marks, or to the end where reasoning is cut off; the marks don't count. Reasoning
// stands before the answer, behind ASCII blanks at most. `is_open`: it was opened before.
int CountReasoningTokens(const Tokenizer& tokenizer, const ReasoningMarks& marks, bool is_open,
                         std::span<const TokenId> output);

}  // namespace expertd
