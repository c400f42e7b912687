// ModelConfig: a model folder's config.json as one value made of specs. Read once at load; families fill in what their
// architecture fixes (see registry.h), everything after that (layers, memory sums, `inspect`) reads this value only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/layers/layer_specs.h"
#include "engine/tensor/dtype.h"

namespace expertd {

struct LayerSpec {
  std::variant<DenseSpec, PlainSpec, MoeSpec> ffn;
};

struct ModelConfig {
  std::string architecture;  // "Qwen3MoeForCausalLM"
  int hidden_size = 0;
  int vocab_size = 0;  // rows of the embedding; may exceed the tokenizer's
  AttentionSpec attention;  // the same in all layers
  RopeSpec rope;
  NormSpec norm;
  bool ties_embeddings = false;        // the output head is the embedding
  bool has_position_table = false;     // learned positions are added to the embedding
  bool ends_with_query_layer = false;  // the last layer has learned queries; the final norm comes before it, not after
  int64_t max_position_embeddings = 0;
  std::vector<int32_t> eos_token_ids;     // may be empty
  std::optional<DType> checkpoint_dtype;  // what config.json says; tensors decide for themselves
  std::vector<LayerSpec> layers;

  int num_layers() const { return static_cast<int>(layers.size()); }

  // Longest sequence the positions reach: max_position_embeddings, or more when the rope scaling stretches it.
  int64_t max_positions() const;
};

// Reads `json` (the content of config.json). Errors: InvalidArgument naming the key and the value (missing, of another
// type, outside the limits stated in model_config.cc, or contradicting another key); Unimplemented naming the
// architecture (with the known ones) or the feature (sliding window, rope type, activation, quantization_config).
absl::StatusOr<ModelConfig> ParseModelConfig(const Json& json);

// ParseModelConfig of `dir`/config.json, or of what a checkpoint of Megatron tells (checkpoint/megatron_checkpoint.h);
// messages lead with the path.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& dir);

}  // namespace expertd
