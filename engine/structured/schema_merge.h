// Two JSON schemas as one that says what both say; and references within a schema.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/base/json.h"

namespace expertd {

// Immutable; `root` outlives it.
class SchemaResolver {
 public:
  explicit SchemaResolver(const Json& root) : root_(root) {}

  // What `reference`, the value of a $ref, leads to; sets `*pointer` to its JSON pointer, "#/...", in its normal form.
  // Errors: InvalidArgument for one that leads nowhere or out of the schema.
  absl::StatusOr<const Json*> Resolve(const Json& reference, std::string* pointer) const;

  // `schema`, or what it refers to while it is a mere reference; itself where a reference is wrong or goes round.
  const Json& Follow(const Json& schema) const;

 private:
  const Json& root_;
};

// A text validates against the result exactly when it does against both. A reference in either is followed. Errors:
// InvalidArgument naming the keyword for what can't be merged.
absl::StatusOr<Json> MergeSchemas(const Json& a, const Json& b, const SchemaResolver& resolver);

}  // namespace expertd
