#include "engine/text/reasoning_marks.h"

#include <string_view>
#include <utility>

namespace expertd {
namespace {

bool IsBlank(const Tokenizer& tokenizer, TokenId token) {
  return tokenizer.TokenBytes(token).find_first_not_of(" \t\r\n") == std::string_view::npos;
}

// The last token that is not blank; -1: there is none.
TokenId LastToken(const Tokenizer& tokenizer, std::span<const TokenId> prompt) {
  while (!prompt.empty() && IsBlank(tokenizer, prompt.back())) prompt = prompt.first(prompt.size() - 1);
  return prompt.empty() ? -1 : prompt.back();
}

}  // namespace

std::optional<ReasoningMarks> FindReasoningMarks(const Tokenizer& tokenizer) {
  constexpr std::pair<std::string_view, std::string_view> kPairs[] = {{"<think>", "</think>"},
                                                                      {"[unused16]", "[unused17]"}};
  for (const auto& [open_text, close_text] : kPairs) {
    const std::optional<TokenId> open = tokenizer.TokenToId(open_text), close = tokenizer.TokenToId(close_text);
    if (open && close) return ReasoningMarks{*open, *close};
  }
  return std::nullopt;
}

bool EndsInReasoning(const Tokenizer& tokenizer, const ReasoningMarks& marks, std::span<const TokenId> prompt) {
  return LastToken(tokenizer, prompt) == marks.open;
}

bool EndsBehindReasoning(const Tokenizer& tokenizer, const ReasoningMarks& marks, std::span<const TokenId> prompt) {
  return LastToken(tokenizer, prompt) == marks.close;
}

int CountReasoningTokens(const Tokenizer& tokenizer, const ReasoningMarks& marks, bool is_open,
                         std::span<const TokenId> output) {
  int count = 0;
  for (const TokenId token : output) {
    if (token == marks.open) {
      is_open = true;
    } else if (is_open && token != marks.close) {
      ++count;
    } else if (is_open || !IsBlank(tokenizer, token)) {
      break;  // the answer
    }
  }
  return count;
}

}  // namespace expertd
