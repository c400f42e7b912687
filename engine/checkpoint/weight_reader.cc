#include "engine/checkpoint/weight_reader.h"

#include <algorithm>

#include "engine/base/status_macros.h"
#include "engine/checkpoint/quantized_tensors.h"

namespace expertd {

absl::StatusOr<std::vector<float>> WeightReader::OptionalBias(std::string_view weight, int size) {
  const std::optional<std::string> module = ModuleOf(weight);
  if (!module || !Has(*module + ".bias")) return std::vector<float>();
  ASSIGN_OR_RETURN(std::vector<float> bias, Vector(*module + ".bias", size));
  if (std::ranges::all_of(bias, [](float value) { return value == 0.0f; })) bias = {};
  return bias;
}

}  // namespace expertd
