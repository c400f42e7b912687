// The dense gated feed-forward: down(silu(gate(x)) * up(x)).
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/layers/feed_forward.h"
#include "engine/layers/layer_specs.h"

namespace expertd {

// Names of the tensors: gate and up [width, hidden], down [hidden, width].
struct MlpNames {
  std::string gate, up, down;
};

// Errors: as WeightReader.
absl::StatusOr<std::unique_ptr<FeedForward>> LoadMlp(const DenseSpec& spec, int hidden_size, const MlpNames& names,
                                                     WeightReader& reader);

}  // namespace expertd
