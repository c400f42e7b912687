// Regular expressions as grammars: those of ECMAScript and Python, but for what is not regular.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/structured/grammar.h"

namespace expertd {

struct RegexOptions {
  // A text matches that has a match anywhere, as JSON Schema's `pattern` has it; else the whole text must.
  bool is_search = false;
  // Made of each class of characters, for texts that are written with escapes. Null: the characters themselves.
  Grammar::Expression (*add_characters)(const std::vector<CodePointRange>& ranges, Grammar& grammar) = nullptr;
};

// `pattern` is UTF-8: literals, `.` (all but line ends), classes, groups (all alike), alternatives, `* + ? {m} {m,}
// {m,n}` (a following `?` changes nothing), `^` and `$` at the ends of the pattern or of an alternative. \d \w \s are
// of ASCII; no space of Unicode's is a \S.
// Errors: InvalidArgument with the offset, for look-around, back references, \b, flags, what is not well-formed, and
// groups deeper than PatternReader::kMaxNesting.
absl::StatusOr<Grammar::Expression> AddRegex(std::string_view pattern, Grammar& grammar,
                                             const RegexOptions& options = {});

}  // namespace expertd
