// Is it UTF-8? For whoever takes bytes from callers and files; what characters mean is told in text/unicode.h.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace expertd {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// What stands at the beginning of some bytes (Unicode standard, table 3-7).
struct Utf8Scan {
  enum class Kind {
    kComplete,    // a character of `num_bytes`
    kIncomplete,  // all `num_bytes` bytes there are could begin a character
    kInvalid,     // `num_bytes` bytes form a maximal subpart that no continuation can complete
  };
  Kind kind;
  int num_bytes;
};

// `bytes` is not empty.
Utf8Scan ScanUtf8(std::string_view bytes);

// First offset from `begin` on whose byte isn't ASCII; the size of `text` when there is none.
size_t SkipAscii(std::string_view text, size_t begin);

// Offset of the first byte that isn't part of a well-formed character; nullopt when all of `text` is UTF-8.
std::optional<size_t> FindInvalidUtf8(std::string_view text);

}  // namespace expertd
