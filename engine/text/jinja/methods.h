// What the methods of strings and those of other values share.
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

using Method = absl::StatusOr<Value> (*)(Runtime& runtime, const Value& self, const CallArguments& arguments);

struct NamedMethod {
  std::string_view name;
  Method method;
};

// Sorted by name.
std::span<const NamedMethod> StringMethods();

// The bound of a search in `length` places: negative ones count from the end, down to the first place. Error: a
// TypeError when it is no integer.
absl::StatusOr<int64_t> WindowBound(const std::optional<Value>& value, int64_t fallback, int64_t length);

}  // namespace expertd::jinja
