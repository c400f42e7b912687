// For parsers of text that arrives in pieces: how much of its end must wait for more.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace expertd {

// The length of the longest end of `text` that `mark` (not empty) begins with but is not.
inline size_t NumHeldBytes(std::string_view text, std::string_view mark) {
  for (size_t size = std::min(text.size(), mark.size() - 1); size > 0; --size) {
    if (mark.starts_with(text.substr(text.size() - size))) return size;
  }
  return 0;
}

// Blanks before a mark are held back with it, but no more than these: a model that writes blanks without end must not
// keep its caller waiting.
inline constexpr size_t kMaxHeldBlanks = 64;

// `text` without the characters of `blanks` at its end, of which at most kMaxHeldBlanks go.
inline std::string_view WithoutBlanksAtEnd(std::string_view text, std::string_view blanks) {
  const size_t num_released = text.size() - std::min(text.size(), kMaxHeldBlanks);
  return text.substr(0, std::max(text.find_last_not_of(blanks) + 1, num_released));
}

}  // namespace expertd
