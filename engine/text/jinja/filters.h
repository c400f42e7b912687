// What the families of filters share: their tables, from which FindFilter takes, and the reading of arguments.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/runtime.h"
#include "engine/text/jinja/value.h"

namespace expertd::jinja {

struct NamedFilter {
  std::string_view name;
  Builtin filter;
};

// Each is sorted by name; no name is in two of them.
std::span<const NamedFilter> SequenceFilters();
std::span<const NamedFilter> ValueFilters();
std::span<const NamedFilter> TextFilters();

// The value as a string value: markup stays markup, other values become their str().
absl::StatusOr<Value> SoftStr(Runtime& runtime, const Value& value);
absl::StatusOr<bool> TruthOr(Runtime& runtime, const std::optional<Value>& value, bool fallback);
// Errors: the value is undefined, or no integer; a TypeError naming `what`.
absl::StatusOr<int64_t> IntOr(const std::optional<Value>& value, int64_t fallback, std::string_view what);

}  // namespace expertd::jinja
