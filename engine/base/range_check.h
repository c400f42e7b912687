// Is a setting within its range?
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "engine/base/strings.h"

namespace expertd {

// InvalidArgument "NAME is VALUE; must be MINIMUM..MAXIMUM" when it is not.
inline absl::Status CheckRange(std::string_view name, int64_t value, int64_t minimum, int64_t maximum) {
  if (value >= minimum && value <= maximum) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(name, " is ", value, "; must be ", minimum, "..", maximum));
}

// InvalidArgument "NAME is VALUE; must be 0 or more" when it is negative or not a number.
inline absl::Status CheckNotNegative(std::string_view name, double value) {
  if (value >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(name, " is ", value, "; must be 0 or more"));
}

}  // namespace expertd
