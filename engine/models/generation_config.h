// GenerationDefaults: what a model folder's generation_config.json advises for sampling. A request's own values win.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/json.h"

namespace expertd {

// Unset fields were absent (or null) in the file.
struct GenerationDefaults {
  std::optional<bool> do_sample;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::vector<int32_t> eos_token_ids;
};

// Errors: InvalidArgument naming the key and the value. Unknown keys are ignored: the file has dozens that concern
// other libraries.
absl::StatusOr<GenerationDefaults> ParseGenerationConfig(const Json& json);

// ParseGenerationConfig of `dir`/generation_config.json; the empty value when there is no such file.
absl::StatusOr<GenerationDefaults> ReadGenerationConfig(const std::string& dir);

// Reads "eos_token_id": absent or null, one id, or a list of ids (at most 64, each in [0, 2^31)). In file order,
// without repetition. Errors: InvalidArgument.
absl::StatusOr<std::vector<int32_t>> ReadEosTokenIds(const Json& json);

}  // namespace expertd
