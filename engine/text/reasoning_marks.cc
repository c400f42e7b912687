#include "engine/text/reasoning_marks.h"

#include <string_view>
#include <utility>

namespace expertd {
namespace {

// The last token that is not blank; -1: there is none.
TokenId LastToken(const Tokenizer& tokenizer, std::span<const TokenId> prompt) {
  constexpr std::string_view kBlanks = " \t\r\n";
  while (!prompt.empty() && tokenizer.TokenBytes(prompt.back()).find_first_not_of(kBlanks) == std::string_view::npos) {
    prompt = prompt.first(prompt.size() - 1);
  }
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

int CountReasoningTokens(const ReasoningMarks& marks, bool is_open, std::span<const TokenId> output) {
  int count = 0;
  for (const TokenId token : output) {
    if (token == marks.open || token == marks.close) {
      is_open = token == marks.open;
    } else if (is_open) {
      ++count;
    }
  }
  return count;
}

}  // namespace expertd
