// JSON Schema (drafts 2020-12 and 7) as grammars. Every text of the grammar validates against the schema; not every
// text that validates is one: properties come in the order in which the schema has them, others than those come only
// where `additionalProperties` allows them in so many words (or there are no properties at all), and a schema without
// `type` whose other keywords speak of one type is of that type.
#pragma once

#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/structured/grammar.h"

namespace expertd {

// Levels of JSON, as ParseJson counts them.
inline constexpr int kMaxSchemaDepth = 128;

// `schema` is an object or a boolean, not deeper than kMaxSchemaDepth. Errors: InvalidArgument with the JSON pointer
// and the keyword: for one that is unknown or that a grammar can't promise (`not`, `if`, `contains`, `uniqueItems`,
// `patternProperties`, ...; `oneOf` whose branches may match together; length limits beside `pattern`, or narrower than
// a `format`), for a wrong value, and for a reference that leads nowhere or out of the schema.
absl::StatusOr<Grammar::Expression> AddJsonSchema(const Json& schema, Grammar& grammar);

// Any JSON object.
Grammar::Expression AddJsonObject(Grammar& grammar);

}  // namespace expertd
