// Qwen3-MoE: the attention of Qwen3; layer i is sparse unless mlp_only_layers names it or decoder_sparse_step skips it.
// Every expert has the width moe_intermediate_size; there is no shared expert.
#include <set>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/models/config_reading.h"
#include "engine/models/decoder_model.h"
#include "engine/models/registry.h"

namespace expertd {
namespace {

constexpr int kMaxExperts = 4096;
constexpr int kMaxExpertsPerToken = 256;
constexpr int kMaxExpertWidth = 1 << 20;

absl::StatusOr<MoeSpec> ReadMoeSpec(const Json& json) {
  MoeSpec spec;
  // Newer files say num_local_experts.
  const std::string_view count_key = JsonFind(json, "num_experts") != nullptr ? "num_experts" : "num_local_experts";
  ASSIGN_OR_RETURN(spec.num_experts, ReadSize(json, count_key, kMaxExperts));
  ASSIGN_OR_RETURN(spec.experts_per_token, ReadSize(json, "num_experts_per_tok", kMaxExpertsPerToken));
  ASSIGN_OR_RETURN(spec.expert_intermediate_size, ReadSize(json, "moe_intermediate_size", kMaxExpertWidth));
  ASSIGN_OR_RETURN(spec.router.normalizes_top_k, JsonBoolOr(json, "norm_topk_prob", false));
  if (spec.experts_per_token > spec.num_experts) {
    return absl::InvalidArgumentError(StrCat("num_experts_per_tok is ", spec.experts_per_token, "; must be at most ",
                                             count_key, " ", spec.num_experts));
  }
  return spec;
}

absl::StatusOr<std::set<int64_t>> ReadDenseLayers(const Json& json, int num_layers) {
  std::set<int64_t> dense;
  const Json* const list = JsonFind(json, "mlp_only_layers");
  if (list == nullptr) return dense;
  if (!list->is_array()) return absl::InvalidArgumentError("mlp_only_layers must be a list of layer indices");
  for (const Json& element : *list) {
    const Json holder = {{"mlp_only_layers", element}};
    ASSIGN_OR_RETURN(const int64_t layer, JsonInt(holder, "mlp_only_layers", 0, num_layers - 1));
    dense.insert(layer);
  }
  return dense;
}

absl::Status FillLayers(const Json& json, ModelConfig& config) {
  ASSIGN_OR_RETURN(const MoeSpec moe, ReadMoeSpec(json));
  ASSIGN_OR_RETURN(const int64_t sparse_step, JsonIntOr(json, "decoder_sparse_step", 1, 1, INT32_MAX));
  ASSIGN_OR_RETURN(const std::set<int64_t> dense_layers, ReadDenseLayers(json, config.num_layers()));
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
  ASSIGN_OR_RETURN(const bool has_bias, JsonBoolOr(json, "attention_bias", false));
  config.attention.has_qkv_bias = has_bias;
  config.attention.has_output_bias = has_bias;
  config.attention.has_qk_norm = true;
  RETURN_IF_ERROR(FillLayers(json, config));
  return config;
}

absl::StatusOr<std::unique_ptr<Model>> BuildQwen3Moe(ModelConfig config, WeightReader& reader,
                                                     const LoadOptions& options, ThreadPool& pool) {
  DecoderNames names;
  names.layer = LlamaLayerNames;
  return LoadDecoderModel(std::move(config), names, reader, options, pool);
}

}  // namespace

constexpr ModelFamily kQwen3MoeFamily = {"Qwen3MoeForCausalLM", ReadQwen3MoeConfig, BuildQwen3Moe};

}  // namespace expertd
