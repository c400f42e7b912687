// Grammars in EBNF, as users of llama.cpp (GBNF) and XGrammar write them.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/structured/grammar.h"

namespace expertd {

// `name ::= alternatives`, one rule after the other; the output is what `root` stands for. "text" and 'text' with
// escapes, [classes], `.` (any character), ( ), `* + ? {m} {m,} {m,n}`, `|`, comments from # to the end of the line.
// Errors: InvalidArgument with line and column: a rule that is called and not defined, or defined twice; no `root`;
// groups deeper than PatternReader::kMaxNesting; what is not well-formed.
absl::StatusOr<Grammar::Expression> AddEbnf(std::string_view text, Grammar& grammar);

}  // namespace expertd
