// Two JSON schemas as one that says what both say; and references within a schema.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

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

// `token` as a part of a JSON pointer.
std::string EscapedForPointer(std::string_view token);

// What reading one schema may cost: a few bytes of references can ask for very many merges and comparisons.
class SchemaBudget {
 public:
  static constexpr int64_t kMaxSteps = 50'000'000;  // some tenths of a second
  static constexpr int64_t kStepsOfCopy = 24;       // of one value

  // Notes that values are looked at so many times; false when it is too much.
  bool Spend(int64_t num_steps) {
    num_steps_left_ -= std::min(num_steps, num_steps_left_ + 1);
    return num_steps_left_ >= 0;
  }

 private:
  int64_t num_steps_left_ = kMaxSteps;  // -1: used up
};

// A text validates against the result exactly when it does against both. A reference in either is followed. Errors:
// InvalidArgument naming the keyword for what can't be merged, or when the budget is used up.
absl::StatusOr<Json> MergeSchemas(const Json& a, const Json& b, const SchemaResolver& resolver, SchemaBudget& budget);

}  // namespace expertd
