// Early return on a non-OK absl::Status. Abseil 20220623 has Status but no macros for it.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define EXPERTD_CONCAT_INNER(a, b) a##b
#define EXPERTD_CONCAT(a, b) EXPERTD_CONCAT_INNER(a, b)

// Evaluates an expression of type absl::Status and returns it from the enclosing function unless it is OK.
#define RETURN_IF_ERROR(expression)                                              \
  do {                                                                           \
    if (absl::Status expertd_status = (expression); !expertd_status.ok()) {      \
      return expertd_status;                                                     \
    }                                                                            \
  } while (false)

// Evaluates an expression of type absl::StatusOr<T>; returns its status, or assigns its value:
// `ASSIGN_OR_RETURN(auto config, ReadConfig(path));`
#define ASSIGN_OR_RETURN(target, expression) \
  EXPERTD_ASSIGN_OR_RETURN_INNER(EXPERTD_CONCAT(expertd_value_or_, __LINE__), target, expression)
#define EXPERTD_ASSIGN_OR_RETURN_INNER(value_or, target, expression) \
  auto value_or = (expression);                                      \
  if (!value_or.ok()) return std::move(value_or).status();           \
  target = *std::move(value_or)
