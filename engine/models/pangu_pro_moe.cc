// Pangu Pro MoE (72B-A16B, arXiv 2505.21411): grouped-query attention with biases on all four projections, experts in
// as many groups as a token chooses experts, one of each group, and a shared expert without a gate. The published model
// code was not at hand: softmax and scale of the router are computed in fp32, on fp32 logits.
#include <set>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/models/config_reading.h"
#include "engine/models/decoder_model.h"
#include "engine/models/registry.h"

namespace expertd {
namespace {

constexpr int kMaxSharedWidth = 1 << 20;

absl::Status FillLayers(const Json& json, ModelConfig& config) {
  ASSIGN_OR_RETURN(MoeSpec moe, ReadMoeSpec(json, "num_experts"));
  if (moe.num_experts % moe.experts_per_token != 0) {
    return absl::InvalidArgumentError(StrCat("num_experts is ", moe.num_experts,
                                             "; must be a multiple of num_experts_per_tok ", moe.experts_per_token,
                                             ", the number of groups"));
  }
  ASSIGN_OR_RETURN(moe.shared_intermediate_size, ReadSize(json, "shared_expert_intermediate_size", kMaxSharedWidth));
  moe.router = GroupedRouter{};
  ASSIGN_OR_RETURN(const std::set<int64_t> dense_layers, ReadMlpOnlyLayers(json, config.num_layers()));
  for (int i = 0; i < config.num_layers(); ++i) {
    config.layers[i].ffn = moe;
    if (!dense_layers.contains(i)) continue;
    ASSIGN_OR_RETURN(config.layers[i].ffn, ReadDenseSpec(json));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadPanguProMoeConfig(const Json& json) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadDecoderConfig(json, {}));
  config.architecture = kPanguProMoeFamily.architecture;
  GqaSpec& attention = std::get<GqaSpec>(config.attention);
  attention.has_qkv_bias = attention.has_output_bias = true;
  RETURN_IF_ERROR(FillLayers(json, config));
  return config;
}

LayerNames PanguProMoeLayerNames(int layer) {
  LayerNames names = LlamaLayerNames(layer);
  const std::string mlp = StrCat("model.layers.", layer, ".mlp");
  names.moe.router_scale = mlp + ".router_scale";
  names.moe.shared = GatedMlpNames(mlp + ".shared_expert");
  return names;
}

}  // namespace

constexpr ModelFamily kPanguProMoeFamily = {"PanguProMoEForCausalLM", "PanguProMoE",
                                            ReadPanguProMoeConfig, BuildDecoder<PanguProMoeLayerNames>};

}  // namespace expertd
