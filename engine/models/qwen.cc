// The dense Qwen families. Qwen2 (also Qwen2.5, QwQ, the distilled DeepSeek-R1 models): biases on q, k and v.
// Qwen3: no biases, RMSNorm of each q and k head, an explicit head_dim.
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/models/config_reading.h"
#include "engine/models/decoder_model.h"
#include "engine/models/registry.h"

namespace expertd {
namespace {

absl::Status FillDenseLayers(const Json& json, ModelConfig& config) {
  ASSIGN_OR_RETURN(const DenseSpec dense, ReadDenseSpec(json));
  for (LayerSpec& layer : config.layers) layer.ffn = dense;
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadQwen2Config(const Json& json) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadDecoderConfig(json, {}));
  config.architecture = kQwen2Family.architecture;
  config.attention.has_qkv_bias = true;
  RETURN_IF_ERROR(FillDenseLayers(json, config));
  return config;
}

absl::StatusOr<ModelConfig> ReadQwen3Config(const Json& json) {
  constexpr int kHeadDim = 128;  // the family's default, whatever hidden_size / num_attention_heads is
  ASSIGN_OR_RETURN(ModelConfig config, ReadDecoderConfig(json, {.head_dim = kHeadDim}));
  config.architecture = kQwen3Family.architecture;
  ASSIGN_OR_RETURN(const bool has_bias, JsonBoolOr(json, "attention_bias", false));
  config.attention.has_qkv_bias = has_bias;
  config.attention.has_output_bias = has_bias;
  config.attention.has_qk_norm = true;
  RETURN_IF_ERROR(FillDenseLayers(json, config));
  return config;
}

absl::StatusOr<std::unique_ptr<Model>> BuildQwen(ModelConfig config, WeightReader& reader,
                                                 const LoadOptions& options, ThreadPool& pool) {
  DecoderNames names;
  names.layer = LlamaLayerNames;
  return LoadDecoderModel(std::move(config), names, reader, options, pool);
}

}  // namespace

constexpr ModelFamily kQwen2Family = {"Qwen2ForCausalLM", ReadQwen2Config, BuildQwen};
constexpr ModelFamily kQwen3Family = {"Qwen3ForCausalLM", ReadQwen3Config, BuildQwen};

}  // namespace expertd
