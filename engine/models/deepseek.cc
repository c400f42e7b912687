// DeepSeek-V2, V2-Lite, V3 and R1: multi-head latent attention; the first layers dense, the others with routed experts
// and shared ones, which are stored as one of their common width. The layers of multi-token prediction that V3 stores
// behind the others are not read.
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/models/config_reading.h"
#include "engine/models/decoder_model.h"
#include "engine/models/registry.h"

namespace expertd {
namespace {

constexpr int kMaxSharedExperts = 64;

// What a version assumes when a key is absent.
struct RouterDefaults {
  std::string_view topk_method;
  std::string_view scoring_func;
  bool normalizes_top_k;
  double scaling_factor;
};

constexpr RouterDefaults kV2Router = {"greedy", "softmax", false, 1.0};
constexpr RouterDefaults kV3Router = {"noaux_tc", "sigmoid", true, 2.5};

// Groups of experts, and how many of them a token may choose from.
struct Groups {
  int count = 1;
  int chosen = 1;
};

absl::StatusOr<Groups> ReadGroups(const Json& json, const MoeSpec& moe) {
  ASSIGN_OR_RETURN(const int64_t count, JsonIntOr(json, "n_group", 1, 1, moe.num_experts));
  ASSIGN_OR_RETURN(const int64_t chosen, JsonIntOr(json, "topk_group", count, 1, count));
  if (moe.num_experts % count != 0) {
    return absl::InvalidArgumentError(
        StrCat("n_routed_experts is ", moe.num_experts, "; must be a multiple of n_group ", count));
  }
  if (moe.experts_per_token > moe.num_experts / count * chosen) {
    return absl::InvalidArgumentError(StrCat("num_experts_per_tok is ", moe.experts_per_token,
                                             "; topk_group ", chosen, " groups have only ",
                                             moe.num_experts / count * chosen, " experts"));
  }
  return Groups{static_cast<int>(count), static_cast<int>(chosen)};
}

absl::StatusOr<RouterSpec> ReadRouter(const Json& json, const MoeSpec& moe, const RouterDefaults& defaults) {
  ASSIGN_OR_RETURN(const std::string method, JsonStringOr(json, "topk_method", std::string(defaults.topk_method)));
  ASSIGN_OR_RETURN(const std::string scoring, JsonStringOr(json, "scoring_func", std::string(defaults.scoring_func)));
  ASSIGN_OR_RETURN(const bool normalizes, JsonBoolOr(json, "norm_topk_prob", defaults.normalizes_top_k));
  ASSIGN_OR_RETURN(const double scaling,
                   JsonNumberOr(json, "routed_scaling_factor", defaults.scaling_factor, 1e-6, 1e6));
  Groups groups;
  if (method != "greedy") {
    ASSIGN_OR_RETURN(groups, ReadGroups(json, moe));
  }
  if (method == "noaux_tc" && scoring == "sigmoid") {
    return SigmoidTopKRouter{.normalizes_top_k = normalizes,
                             .num_groups = groups.count,
                             .num_chosen_groups = groups.chosen,
                             .scaling_factor = scaling};
  }
  if ((method == "greedy" || method == "group_limited_greedy") && scoring == "softmax") {
    // Version 2 divides by the sum instead of scaling; a single expert's weight is never divided.
    const bool divides = normalizes && moe.experts_per_token > 1;
    return SoftmaxTopKRouter{.normalizes_top_k = divides,
                             .num_groups = groups.count,
                             .num_chosen_groups = groups.chosen,
                             .scaling_factor = divides ? 1.0 : scaling};
  }
  return absl::UnimplementedError(
      StrCat("topk_method \"", ShowName(method), "\" with scoring_func \"", ShowName(scoring),
             "\" is not supported; supported are noaux_tc with sigmoid, greedy and group_limited_greedy with softmax"));
}

absl::Status FillLayers(const Json& json, const RouterDefaults& defaults, ModelConfig& config) {
  ASSIGN_OR_RETURN(MoeSpec moe, ReadMoeSpec(json, "n_routed_experts"));
  ASSIGN_OR_RETURN(moe.router, ReadRouter(json, moe, defaults));
  ASSIGN_OR_RETURN(const int64_t num_shared, JsonIntOr(json, "n_shared_experts", 0, 0, kMaxSharedExperts));
  moe.shared_intermediate_size = static_cast<int>(num_shared) * moe.expert_intermediate_size;
  ASSIGN_OR_RETURN(const int64_t num_dense, JsonIntOr(json, "first_k_dense_replace", 0, 0, config.num_layers()));
  ASSIGN_OR_RETURN(const int64_t frequency, JsonIntOr(json, "moe_layer_freq", 1, 1, INT32_MAX));
  for (int i = 0; i < config.num_layers(); ++i) {
    if (i >= num_dense && i % frequency == 0) {
      config.layers[i].ffn = moe;
    } else {
      ASSIGN_OR_RETURN(config.layers[i].ffn, ReadDenseSpec(json));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadConfig(const Json& json, std::string_view architecture,
                                       const RouterDefaults& defaults) {
  ASSIGN_OR_RETURN(ModelConfig config, ReadDecoderConfig(json, {.has_latent_attention = true}));
  config.architecture = architecture;
  RETURN_IF_ERROR(FillLayers(json, defaults, config));
  return config;
}

absl::StatusOr<ModelConfig> ReadDeepseekV2Config(const Json& json) {
  return ReadConfig(json, kDeepseekV2Family.architecture, kV2Router);
}

absl::StatusOr<ModelConfig> ReadDeepseekV3Config(const Json& json) {
  return ReadConfig(json, kDeepseekV3Family.architecture, kV3Router);
}

LayerNames DeepseekLayerNames(int layer) {
  LayerNames names = LlamaLayerNames(layer);
  const std::string mlp = StrCat("model.layers.", layer, ".mlp");
  names.moe.router_bias = mlp + ".gate.e_score_correction_bias";
  names.moe.shared = GatedMlpNames(mlp + ".shared_experts");
  return names;
}

}  // namespace

constexpr ModelFamily kDeepseekV2Family = {"DeepseekV2ForCausalLM", "deepseek_v2",
                                           ReadDeepseekV2Config, BuildDecoder<DeepseekLayerNames>};
constexpr ModelFamily kDeepseekV3Family = {"DeepseekV3ForCausalLM", "deepseek_v3",
                                           ReadDeepseekV3Config, BuildDecoder<DeepseekLayerNames>};

}  // namespace expertd
