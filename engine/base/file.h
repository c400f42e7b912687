// Reading small files whole: configs, templates, vocabularies. Thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace expertd {

// The content of a regular file (a pipe is refused: opening one would wait for a writer). Errors, all naming the path:
// NotFound; InvalidArgument when it is no regular file, has more than `max_bytes` or cannot be read.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes);

}  // namespace expertd
