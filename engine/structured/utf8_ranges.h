// Ranges of code points as sequences of ranges of bytes.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/structured/grammar.h"

namespace expertd {

struct ByteRange8 {
  uint8_t first = 0, last = 0;
};

// One byte of each range, in order.
struct Utf8Range {
  int size = 0;  // 1..4
  std::array<ByteRange8, 4> bytes;
};

// The UTF-8 forms of the code points of `range` (without surrogates), each in one of the results. As RE2 and Rust's
// utf8-ranges cut them: where the length of the form changes, and where a trailing byte does not have its whole range.
std::vector<Utf8Range> SplitUtf8(const CodePointRange& range);

}  // namespace expertd
