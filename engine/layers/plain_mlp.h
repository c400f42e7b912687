// The feed-forward without a gate: down(gelu(up(x) + b)) + b.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/layers/feed_forward.h"
#include "engine/layers/layer_specs.h"

namespace expertd {

// Names of the tensors, each without ".weight" or ".bias": up [width, hidden], down [hidden, width].
struct PlainMlpNames {
  std::string up, down;
};

// Errors: as WeightReader.
absl::StatusOr<std::unique_ptr<FeedForward>> LoadPlainMlp(const PlainSpec& spec, int hidden_size,
                                                          const PlainMlpNames& names, WeightReader& reader);

}  // namespace expertd
