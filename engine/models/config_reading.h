// Reading the parts of config.json that decoder families share. Used by the families' read_config only.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
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
  bool has_latent_attention = false;  // multi-head latent attention instead of grouped-query attention
};

// All that is not particular to a family: sizes, heads, rope, eps, positions, eos ids. Layers are num_hidden_layers
// empty dense ones, to be filled in. Refuses by name what is not supported: sliding windows in use, rope types,
// activations other than silu. Errors: as ParseModelConfig.
absl::StatusOr<ModelConfig> ReadDecoderConfig(const Json& json, const DecoderDefaults& defaults);

// "intermediate_size" as a dense layer.
absl::StatusOr<DenseSpec> ReadDenseSpec(const Json& json);

// All layers dense, of width "intermediate_size".
absl::Status FillDenseLayers(const Json& json, ModelConfig& config);

// Number and width of the experts, `count_key` naming their number; the router is for the family to fill in.
absl::StatusOr<MoeSpec> ReadMoeSpec(const Json& json, std::string_view count_key);

// The layers that "mlp_only_layers" makes dense.
absl::StatusOr<std::set<int64_t>> ReadMlpOnlyLayers(const Json& json, int num_layers);

// "dtype" (newer files) or "torch_dtype"; a name that is none of ours is no error, as tensors decide for themselves.
absl::StatusOr<std::optional<DType>> ReadCheckpointDType(const Json& json);

// A count or a width in 1..maximum; required. Errors: InvalidArgument naming the key and the value.
absl::StatusOr<int> ReadSize(const Json& json, std::string_view key, int maximum);

}  // namespace expertd
