// Reading the parts of config.json that decoder families share. Used by the families' read_config only.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/models/model_config.h"

namespace expertd {

// What a family assumes when a key is absent.
struct DecoderDefaults {
  int head_dim = 0;  // 0: hidden_size / num_attention_heads
  bool ties_embeddings = false;
};

// All that is not particular to a family: sizes, heads, rope, eps, positions, eos ids. Layers are num_hidden_layers
// empty dense ones, to be filled in. Refuses by name what is not supported: sliding windows in use, rope types,
// activations other than silu, quantization_config. Errors: as ParseModelConfig.
absl::StatusOr<ModelConfig> ReadDecoderConfig(const Json& json, const DecoderDefaults& defaults);

// "intermediate_size" as a dense layer.
absl::StatusOr<DenseSpec> ReadDenseSpec(const Json& json);

// A count or a width in 1..maximum; required. Errors: InvalidArgument naming the key and the value.
absl::StatusOr<int> ReadSize(const Json& json, std::string_view key, int maximum);

}  // namespace expertd
