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

}  // namespace expertd
