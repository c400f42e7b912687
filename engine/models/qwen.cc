// The dense Qwen families. Qwen2 (also Qwen2.5, QwQ, the distilled DeepSeek-R1 models): biases on q, k and v.
// Qwen3: no biases, RMSNorm of each q and k head, an explicit head_dim.
#include "engine/base/status_macros.h"
#include "engine/models/config_reading.h"
#include "engine/models/decoder_model.h"
#include "engine/models/registry.h"

namespace expertd {
namespace {

absl::StatusOr<ModelConfig> ReadQwen2Config(const Json& json) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadDecoderConfig(json, {}));
  config.architecture = kQwen2Family.architecture;
  std::get<GqaSpec>(config.attention).has_qkv_bias = true;
  RETURN_IF_ERROR(FillDenseLayers(json, config));
  return config;
}

absl::StatusOr<ModelConfig> ReadQwen3Config(const Json& json) {
  constexpr int kHeadDim = 128;  // the family's default, whatever hidden_size / num_attention_heads is
  ASSIGN_OR_RETURN(ModelConfig config, ReadDecoderConfig(json, {.head_dim = kHeadDim}));
  config.architecture = kQwen3Family.architecture;
  GqaSpec& attention = std::get<GqaSpec>(config.attention);
  ASSIGN_OR_RETURN(attention.has_qkv_bias, JsonBoolOr(json, "attention_bias", false));
  attention.has_output_bias = attention.has_qkv_bias;
  attention.has_qk_norm = true;
  RETURN_IF_ERROR(FillDenseLayers(json, config));
  return config;
}

}  // namespace

constexpr ModelFamily kQwen2Family = {"Qwen2ForCausalLM", "qwen2", ReadQwen2Config, BuildDecoder<LlamaLayerNames>};
constexpr ModelFamily kQwen3Family = {"Qwen3ForCausalLM", "qwen3", ReadQwen3Config, BuildDecoder<LlamaLayerNames>};

}  // namespace expertd
