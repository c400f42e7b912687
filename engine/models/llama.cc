// Llama, and openPangu-Embedded, which is Llama with biases on all four projections of attention: config.json says so
// by "bias". People also run the latter under the name of the former, with attention_bias.
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/models/config_reading.h"
#include "engine/models/decoder_model.h"
#include "engine/models/registry.h"

namespace expertd {
namespace {

absl::StatusOr<ModelConfig> ReadConfig(const Json& json, std::string_view architecture, std::string_view bias_key) {
  ASSIGN_OR_RETURN(const bool has_mlp_bias, JsonBoolOr(json, "mlp_bias", false));
  if (has_mlp_bias) return absl::UnimplementedError("mlp_bias is true; biases in the feed-forward are not supported");
  ASSIGN_OR_RETURN(ModelConfig config, ReadDecoderConfig(json, {}));
  config.architecture = architecture;
  GqaSpec& attention = std::get<GqaSpec>(config.attention);
  ASSIGN_OR_RETURN(attention.has_qkv_bias, JsonBoolOr(json, bias_key, false));
  attention.has_output_bias = attention.has_qkv_bias;
  RETURN_IF_ERROR(FillDenseLayers(json, config));
  return config;
}

absl::StatusOr<ModelConfig> ReadLlamaConfig(const Json& json) {
  return ReadConfig(json, kLlamaFamily.architecture, "attention_bias");
}

absl::StatusOr<ModelConfig> ReadPanguEmbeddedConfig(const Json& json) {
  return ReadConfig(json, kPanguEmbeddedFamily.architecture, "bias");
}

}  // namespace

constexpr ModelFamily kLlamaFamily = {"LlamaForCausalLM", "llama", ReadLlamaConfig, BuildDecoder<LlamaLayerNames>};
constexpr ModelFamily kPanguEmbeddedFamily = {"PanguEmbeddedForCausalLM", "PanguEmbedded",
                                              ReadPanguEmbeddedConfig, BuildDecoder<LlamaLayerNames>};

}  // namespace expertd
