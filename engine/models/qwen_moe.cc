// Qwen3-MoE: the attention of Qwen3; layer i is sparse unless mlp_only_layers names it or decoder_sparse_step skips it.
// Every expert has the width moe_intermediate_size; there is no shared expert.
#include <set>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/models/config_reading.h"
#include "engine/models/decoder_model.h"
#include "engine/models/registry.h"

namespace expertd {
namespace {

absl::Status FillLayers(const Json& json, ModelConfig& config) {
  // Newer files say num_local_experts.
  const std::string_view count_key = JsonFind(json, "num_experts") != nullptr ? "num_experts" : "num_local_experts";
  ASSIGN_OR_RETURN(MoeSpec moe, ReadMoeSpec(json, count_key));
  SoftmaxTopKRouter router;
  ASSIGN_OR_RETURN(router.normalizes_top_k, JsonBoolOr(json, "norm_topk_prob", false));
  moe.router = router;
  ASSIGN_OR_RETURN(const int64_t sparse_step, JsonIntOr(json, "decoder_sparse_step", 1, 1, INT32_MAX));
  ASSIGN_OR_RETURN(const std::set<int64_t> dense_layers, ReadMlpOnlyLayers(json, config.num_layers()));
  for (int i = 0; i < config.num_layers(); ++i) {
    if (!dense_layers.contains(i) && (i + 1) % sparse_step == 0) {
      config.layers[i].ffn = moe;
    } else {
      ASSIGN_OR_RETURN(config.layers[i].ffn, ReadDenseSpec(json));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadQwen3MoeConfig(const Json& json) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadDecoderConfig(json, {}));
  config.architecture = kQwen3MoeFamily.architecture;
  GqaSpec& attention = std::get<GqaSpec>(config.attention);
  ASSIGN_OR_RETURN(attention.has_qkv_bias, JsonBoolOr(json, "attention_bias", false));
  attention.has_output_bias = attention.has_qkv_bias;
  attention.has_qk_norm = true;
  RETURN_IF_ERROR(FillLayers(json, config));
  return config;
}

}  // namespace

constexpr ModelFamily kQwen3MoeFamily = {"Qwen3MoeForCausalLM", "qwen3_moe",
                                         ReadQwen3MoeConfig, BuildDecoder<LlamaLayerNames>};

}  // namespace expertd
