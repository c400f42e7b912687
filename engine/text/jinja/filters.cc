#include "engine/text/jinja/filters.h"

#include <algorithm>

#include "engine/base/status_macros.h"

namespace expertd::jinja {

absl::StatusOr<Value> SoftStr(Runtime& runtime, const Value& value) {
  if (value.is_string()) return value;
  ASSIGN_OR_RETURN(std::string text, Str(runtime, value));
  return runtime.NewString(std::move(text));
}

absl::StatusOr<bool> TruthOr(Runtime& runtime, const std::optional<Value>& value, bool fallback) {
  return value.has_value() ? Truth(runtime, *value) : fallback;
}

absl::StatusOr<int64_t> IntOr(const std::optional<Value>& value, int64_t fallback, std::string_view what) {
  if (!value.has_value()) return fallback;
  if (value->is_undefined()) return absl::InvalidArgumentError(value->undefined().message);
  return ToInt64(*value, what);
}

Builtin FindFilter(std::string_view name) {
  for (const std::span<const NamedFilter> filters : {SequenceFilters(), ValueFilters(), TextFilters()}) {
    const auto filter = std::lower_bound(filters.begin(), filters.end(), name, [](const NamedFilter& entry, auto key) {
      return entry.name < key;
    });
    if (filter != filters.end() && filter->name == name) return filter->filter;
  }
  return nullptr;
}

}  // namespace expertd::jinja
