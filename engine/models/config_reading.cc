#include "engine/models/config_reading.h"

#include <cmath>
#include <string>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/weight_source.h"
#include "engine/models/generation_config.h"

namespace expertd {
namespace {

// Limits: an order of magnitude beyond the largest models known, so that a damaged or hostile file is refused here,
// with the key, and sizes computed from the values fit an int64_t.
constexpr int kMaxHidden = 1 << 17;
constexpr int kMaxLayers = 1024;
constexpr int kMaxHeads = 2048;
constexpr int kMaxHeadDim = 1024;
constexpr int kMaxLatentDim = 2048;
constexpr int kMaxIntermediate = 1 << 20;
constexpr int kMaxExpertsPerToken = 256;
constexpr int kMaxVocab = 1 << 22;
constexpr int64_t kMaxPositions = 1 << 26;
constexpr double kMaxTheta = 1e12;
constexpr double kMaxRopeFactor = 4096.0;
constexpr double kMinEps = 1e-12;
constexpr double kMaxEps = 1e-2;

// A value as it may stand in a one-line message.
std::string ShowJson(const Json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace).substr(0, 60);
}

absl::Status Contradiction(std::string message) { return absl::InvalidArgumentError(std::move(message)); }

absl::StatusOr<GqaSpec> ReadGqaSpec(const Json& json, int hidden_size, const DecoderDefaults& defaults) {
  GqaSpec spec;
  ASSIGN_OR_RETURN(spec.num_heads, ReadSize(json, "num_attention_heads", kMaxHeads));
  ASSIGN_OR_RETURN(const int64_t num_kv_heads, JsonIntOr(json, "num_key_value_heads", spec.num_heads, 1, kMaxHeads));
  spec.num_kv_heads = static_cast<int>(num_kv_heads);
  if (spec.num_heads % spec.num_kv_heads != 0) {
    return Contradiction(StrCat("num_attention_heads is ", spec.num_heads,
                                "; must be a multiple of num_key_value_heads ", spec.num_kv_heads));
  }
  int derived = defaults.head_dim;
  if (derived == 0 && JsonFind(json, "head_dim") == nullptr) {
    if (hidden_size % spec.num_heads != 0) {
      return Contradiction(StrCat("hidden_size is ", hidden_size, "; must be a multiple of num_attention_heads ",
                                  spec.num_heads, " when there is no head_dim"));
    }
    derived = hidden_size / spec.num_heads;
  }
  ASSIGN_OR_RETURN(const int64_t head_dim, JsonIntOr(json, "head_dim", derived, 2, kMaxHeadDim));
  if (head_dim % 2 != 0 || head_dim < 2 || head_dim > kMaxHeadDim) {
    return Contradiction(StrCat("head_dim is ", head_dim, "; must be even, 2..", kMaxHeadDim));
  }
  spec.head_dim = static_cast<int>(head_dim);
  return spec;
}

absl::StatusOr<MlaSpec> ReadMlaSpec(const Json& json) {
  MlaSpec spec;
  ASSIGN_OR_RETURN(spec.num_heads, ReadSize(json, "num_attention_heads", kMaxHeads));
  ASSIGN_OR_RETURN(const int64_t q_lora_rank, JsonIntOr(json, "q_lora_rank", 0, 1, kMaxHidden));  // null: no rank
  spec.q_lora_rank = static_cast<int>(q_lora_rank);
  ASSIGN_OR_RETURN(spec.kv_lora_rank, ReadSize(json, "kv_lora_rank", kMaxLatentDim));
  ASSIGN_OR_RETURN(spec.qk_nope_head_dim, ReadSize(json, "qk_nope_head_dim", kMaxHeadDim));
  ASSIGN_OR_RETURN(spec.qk_rope_head_dim, ReadSize(json, "qk_rope_head_dim", kMaxHeadDim));
  ASSIGN_OR_RETURN(spec.v_head_dim, ReadSize(json, "v_head_dim", kMaxHeadDim));
  ASSIGN_OR_RETURN(spec.has_bias, JsonBoolOr(json, "attention_bias", false));
  ASSIGN_OR_RETURN(spec.has_interleaved_rope, JsonBoolOr(json, "rope_interleave", true));
  if (spec.qk_rope_head_dim % 2 != 0) {
    return Contradiction(StrCat("qk_rope_head_dim is ", spec.qk_rope_head_dim, "; must be even"));
  }
  return spec;
}

// The object that describes the rotation: "rope_parameters" (newer files), "rope_scaling", or none.
absl::StatusOr<const Json*> FindRopeObject(const Json& json) {
  for (const std::string_view key : {"rope_parameters", "rope_scaling"}) {
    const Json* const rope = JsonFind(json, key);
    if (rope == nullptr) continue;
    if (!rope->is_object()) return absl::InvalidArgumentError(StrCat(key, " must be an object"));
    return rope;
  }
  return nullptr;
}

absl::StatusOr<double> ReadRopeFactor(const Json& rope) {
  if (JsonFind(rope, "factor") == nullptr) return absl::InvalidArgumentError("factor of the rope scaling is missing");
  return JsonNumberOr(rope, "factor", 1.0, 1.0, kMaxRopeFactor);
}

// The amplitude of YaRN, section 3.4 of the paper: 0.1 ln(factor) + 1, which DeepSeek's keys generalize.
double YarnAmplitude(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

absl::StatusOr<YarnRope> ReadYarn(const Json& rope, int64_t max_position_embeddings) {
  YarnRope yarn;
  ASSIGN_OR_RETURN(yarn.factor, ReadRopeFactor(rope));
  ASSIGN_OR_RETURN(yarn.original_max_positions,
                   JsonIntOr(rope, "original_max_position_embeddings", max_position_embeddings, 1, kMaxPositions));
  ASSIGN_OR_RETURN(yarn.beta_fast, JsonNumberOr(rope, "beta_fast", 32.0, 1e-3, 1e6));
  ASSIGN_OR_RETURN(yarn.beta_slow, JsonNumberOr(rope, "beta_slow", 1.0, 1e-3, 1e6));
  ASSIGN_OR_RETURN(yarn.truncate, JsonBoolOr(rope, "truncate", true));
  ASSIGN_OR_RETURN(const double mscale, JsonNumberOr(rope, "mscale", 0.0, 0.0, 100.0));
  ASSIGN_OR_RETURN(const double mscale_all_dim, JsonNumberOr(rope, "mscale_all_dim", 0.0, 0.0, 100.0));
  const double derived = mscale != 0.0 && mscale_all_dim != 0.0
                             ? YarnAmplitude(yarn.factor, mscale) / YarnAmplitude(yarn.factor, mscale_all_dim)
                             : YarnAmplitude(yarn.factor, 1.0);
  ASSIGN_OR_RETURN(yarn.attention_factor, JsonNumberOr(rope, "attention_factor", derived, 1e-3, 1e3));
  if (yarn.beta_fast < yarn.beta_slow) {
    return Contradiction(StrCat("beta_fast is ", yarn.beta_fast, "; must be at least beta_slow ", yarn.beta_slow));
  }
  return yarn;
}

absl::StatusOr<RopeSpec> ReadRope(const Json& json, int head_dim, int64_t max_position_embeddings) {
  RopeSpec spec;
  spec.rotary_dim = head_dim;
  ASSIGN_OR_RETURN(const double top_theta, JsonNumberOr(json, "rope_theta", 10000.0, 1.001, kMaxTheta));
  spec.theta = top_theta;
  ASSIGN_OR_RETURN(const Json* const rope, FindRopeObject(json));
  if (rope == nullptr) return spec;
  ASSIGN_OR_RETURN(spec.theta, JsonNumberOr(*rope, "rope_theta", top_theta, 1.001, kMaxTheta));
  for (const Json* const object : {&json, rope}) {
    ASSIGN_OR_RETURN(const double partial, JsonNumberOr(*object, "partial_rotary_factor", 1.0, 0.0, 1.0));
    if (partial != 1.0) {
      return absl::UnimplementedError(StrCat("partial_rotary_factor ", partial, " is not supported; only 1"));
    }
  }
  ASSIGN_OR_RETURN(const std::string legacy_type, JsonStringOr(*rope, "type", "default"));
  ASSIGN_OR_RETURN(const std::string type, JsonStringOr(*rope, "rope_type", legacy_type));
  if (type == "default") return spec;
  if (type == "linear") {
    ASSIGN_OR_RETURN(const double factor, ReadRopeFactor(*rope));
    spec.scaling = LinearRope{factor};
    return spec;
  }
  if (type == "yarn") {
    ASSIGN_OR_RETURN(spec.scaling, ReadYarn(*rope, max_position_embeddings));
    return spec;
  }
  return absl::UnimplementedError(StrCat("rope type \"", ShowName(type.substr(0, 40)),
                                         "\" is not supported; supported are default, linear and yarn"));
}

// What q . k is multiplied with in latent attention: 1 / sqrt(query head), and with YaRN the square of its amplitude,
// as in the model's published code; at every length, like the rotation itself.
absl::StatusOr<double> LatentScoreScale(const Json& json, const MlaSpec& spec, const RopeSpec& rope) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(spec.query_head_dim()));
  const auto* const yarn = std::get_if<YarnRope>(&rope.scaling);
  if (yarn == nullptr) return scale;
  ASSIGN_OR_RETURN(const Json* const object, FindRopeObject(json));
  ASSIGN_OR_RETURN(const double mscale_all_dim, JsonNumberOr(*object, "mscale_all_dim", 0.0, 0.0, 100.0));
  const double amplitude = YarnAmplitude(yarn->factor, mscale_all_dim);
  return scale * amplitude * amplitude;
}

absl::Status ReadAttention(const Json& json, const DecoderDefaults& defaults, ModelConfig& config) {
  if (!defaults.has_latent_attention) {
    ASSIGN_OR_RETURN(const GqaSpec gqa, ReadGqaSpec(json, config.hidden_size, defaults));
    ASSIGN_OR_RETURN(config.rope, ReadRope(json, gqa.head_dim, config.max_position_embeddings));
    config.attention = gqa;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(MlaSpec mla, ReadMlaSpec(json));
  ASSIGN_OR_RETURN(config.rope, ReadRope(json, mla.qk_rope_head_dim, config.max_position_embeddings));
  ASSIGN_OR_RETURN(mla.score_scale, LatentScoreScale(json, mla, config.rope));
  config.attention = mla;
  return absl::OkStatus();
}

absl::Status RefuseSlidingWindow(const Json& json) {
  ASSIGN_OR_RETURN(const bool uses_window, JsonBoolOr(json, "use_sliding_window", false));
  if (uses_window && JsonFind(json, "sliding_window") != nullptr) {
    return absl::UnimplementedError("use_sliding_window is true; sliding window attention is not supported");
  }
  const Json* const types = JsonFind(json, "layer_types");
  if (types == nullptr || !types->is_array()) return absl::OkStatus();
  for (const Json& type : *types) {
    if (type.is_string() && type.get_ref<const std::string&>() == "full_attention") continue;
    return absl::UnimplementedError("layer_types has layers other than \"full_attention\"; they are not supported");
  }
  return absl::OkStatus();
}

absl::Status RefuseUnsupported(const Json& json) {
  if (const Json* const activation = JsonFind(json, "hidden_act"); activation != nullptr && *activation != "silu") {
    return absl::UnimplementedError(StrCat("hidden_act is ", ShowJson(*activation), "; only \"silu\" is supported"));
  }
  return RefuseSlidingWindow(json);
}

}  // namespace

absl::StatusOr<std::optional<DType>> ReadCheckpointDType(const Json& json) {
  ASSIGN_OR_RETURN(const std::string legacy, JsonStringOr(json, "torch_dtype", ""));
  ASSIGN_OR_RETURN(const std::string name, JsonStringOr(json, "dtype", legacy));
  if (name == "float32") return DType::kF32;
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  return std::nullopt;
}

absl::StatusOr<int> ReadSize(const Json& json, std::string_view key, int maximum) {
  ASSIGN_OR_RETURN(const int64_t value, JsonInt(json, key, 1, maximum));
  return static_cast<int>(value);
}

absl::StatusOr<DenseSpec> ReadDenseSpec(const Json& json) {
  ASSIGN_OR_RETURN(const int width, ReadSize(json, "intermediate_size", kMaxIntermediate));
  return DenseSpec{width};
}

absl::StatusOr<MoeSpec> ReadMoeSpec(const Json& json, std::string_view count_key) {
  MoeSpec spec;
  ASSIGN_OR_RETURN(spec.num_experts, ReadSize(json, count_key, kMaxExperts));
  ASSIGN_OR_RETURN(spec.experts_per_token, ReadSize(json, "num_experts_per_tok", kMaxExpertsPerToken));
  ASSIGN_OR_RETURN(spec.expert_intermediate_size, ReadSize(json, "moe_intermediate_size", kMaxIntermediate));
  if (spec.experts_per_token > spec.num_experts) {
    return Contradiction(StrCat("num_experts_per_tok is ", spec.experts_per_token, "; must be at most ", count_key, " ",
                                spec.num_experts));
  }
  return spec;
}

absl::StatusOr<std::set<int64_t>> ReadMlpOnlyLayers(const Json& json, int num_layers) {
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

absl::Status FillDenseLayers(const Json& json, ModelConfig& config) {
  ASSIGN_OR_RETURN(const DenseSpec dense, ReadDenseSpec(json));
  for (LayerSpec& layer : config.layers) layer.ffn = dense;
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadDecoderConfig(const Json& json, const DecoderDefaults& defaults) {
  RETURN_IF_ERROR(RefuseUnsupported(json));
  ModelConfig config;
  ASSIGN_OR_RETURN(config.hidden_size, ReadSize(json, "hidden_size", kMaxHidden));
  ASSIGN_OR_RETURN(config.vocab_size, ReadSize(json, "vocab_size", kMaxVocab));
  ASSIGN_OR_RETURN(const int num_layers, ReadSize(json, "num_hidden_layers", kMaxLayers));
  ASSIGN_OR_RETURN(config.max_position_embeddings, JsonInt(json, "max_position_embeddings", 1, kMaxPositions));
  RETURN_IF_ERROR(ReadAttention(json, defaults, config));
  ASSIGN_OR_RETURN(config.norm.eps, JsonNumberOr(json, "rms_norm_eps", 1e-6, kMinEps, kMaxEps));
  ASSIGN_OR_RETURN(config.ties_embeddings, JsonBoolOr(json, "tie_word_embeddings", defaults.ties_embeddings));
  ASSIGN_OR_RETURN(config.eos_token_ids, ReadEosTokenIds(json));
  ASSIGN_OR_RETURN(config.checkpoint_dtype, ReadCheckpointDType(json));
  config.layers.resize(static_cast<size_t>(num_layers));
  return config;
}

}  // namespace expertd
