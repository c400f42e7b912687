// PanGu-alpha (arXiv 2104.12369): a decoder with LayerNorms, learned positions, biases everywhere and a GELU
// feed-forward without a gate. Its last layer, the query layer, asks by position what follows: its queries are learned,
// its stream is what the final norm yields, and no norm comes after it. Names and keys are those of the Hugging Face
// ports, which model_type tells apart (gpt_pangu, pangu) and which are alike otherwise; the original's weights were
// trained with the GELU by tanh, while "gelu" is that by erf, as in the ports.
#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/models/config_reading.h"
#include "engine/models/decoder_model.h"
#include "engine/models/generation_config.h"
#include "engine/models/registry.h"

namespace expertd {
namespace {

constexpr int kMaxHidden = 1 << 17;
constexpr int kMaxLayers = 1024;
constexpr int kMaxHeads = 2048;
constexpr int kMaxIntermediate = 1 << 20;
constexpr int kMaxPositions = 1 << 20;  // two tables have a row for each
constexpr int kVocabulary = 40000;      // of every PanGu-alpha model; a file with more rows has padding
constexpr int32_t kEndOfText = 9;

absl::StatusOr<Gelu> ReadGelu(const Json& json) {
  ASSIGN_OR_RETURN(const std::string name, JsonStringOr(json, "activation_function", "gelu"));
  if (name == "gelu") return Gelu::kErf;
  constexpr std::string_view kTanhNames[] = {"gelu_new", "gelu_tanh", "gelu_pytorch_tanh", "gelu_fast"};
  if (std::ranges::count(kTanhNames, name) != 0) return Gelu::kTanh;
  return absl::UnimplementedError(StrCat("activation_function is ", ShowName(name),
                                         "; supported are gelu, gelu_new, gelu_tanh, gelu_pytorch_tanh and gelu_fast"));
}

absl::StatusOr<GqaSpec> ReadAttention(const Json& json, int hidden_size) {
  ASSIGN_OR_RETURN(const int num_heads, ReadSize(json, "num_heads", kMaxHeads));
  ASSIGN_OR_RETURN(const bool scales, JsonBoolOr(json, "scale_attn_weights", true));
  if (!scales) return absl::UnimplementedError("scale_attn_weights is false; only true is supported");
  if (hidden_size % num_heads != 0) {
    return absl::InvalidArgumentError(
        StrCat("hidden_size is ", hidden_size, "; must be a multiple of num_heads ", num_heads));
  }
  return GqaSpec{.num_heads = num_heads,
                 .num_kv_heads = num_heads,
                 .head_dim = hidden_size / num_heads,
                 .has_qkv_bias = true,
                 .has_output_bias = true,
                 .has_rope = false};
}

absl::StatusOr<PlainSpec> ReadFeedForward(const Json& json, int hidden_size) {
  PlainSpec spec = {.intermediate_size = 4 * hidden_size};
  if (JsonFind(json, "intermediate_size") != nullptr) {
    ASSIGN_OR_RETURN(spec.intermediate_size, ReadSize(json, "intermediate_size", kMaxIntermediate));
  }
  ASSIGN_OR_RETURN(spec.gelu, ReadGelu(json));
  return spec;
}

absl::StatusOr<ModelConfig> ReadPanguAlphaConfig(const Json& json) {
  ModelConfig config;
  config.architecture = kPanguAlphaFamily.architecture;
  ASSIGN_OR_RETURN(config.hidden_size, ReadSize(json, "hidden_size", kMaxHidden));
  ASSIGN_OR_RETURN(const int vocab_size, ReadSize(json, "vocab_size", INT32_MAX));
  config.vocab_size = std::min(vocab_size, kVocabulary);
  ASSIGN_OR_RETURN(config.attention, ReadAttention(json, config.hidden_size));
  ASSIGN_OR_RETURN(config.max_position_embeddings, ReadSize(json, "max_position_embeddings", kMaxPositions));
  config.norm.kind = NormKind::kLayer;
  ASSIGN_OR_RETURN(config.norm.eps, JsonNumberOr(json, "layer_norm_epsilon", 1e-5, 1e-12, 1e-2));
  config.ties_embeddings = config.has_position_table = config.ends_with_query_layer = true;
  ASSIGN_OR_RETURN(config.eos_token_ids, ReadEosTokenIds(json));
  if (config.eos_token_ids.empty()) config.eos_token_ids = {kEndOfText};
  ASSIGN_OR_RETURN(config.checkpoint_dtype, ReadCheckpointDType(json));
  ASSIGN_OR_RETURN(const int num_layers, ReadSize(json, "num_layers", kMaxLayers));  // with the query layer
  ASSIGN_OR_RETURN(const PlainSpec feed_forward, ReadFeedForward(json, config.hidden_size));
  config.layers.assign(static_cast<size_t>(num_layers), {.ffn = feed_forward});
  return config;
}

LayerNames PanguAlphaLayerNames(int layer, const std::string& output) {
  const std::string prefix = StrCat("transformer.h.", layer, ".");
  LayerNames names;
  names.attention_norm = prefix + "ln_1";
  names.attention = {.q = prefix + "attn.q_proj",
                     .k = prefix + "attn.k_proj",
                     .v = prefix + "attn.v_proj",
                     .output = prefix + output,
                     .query_table = "transformer.wqe"};
  names.feed_forward_norm = prefix + "ln_2";
  names.plain = {.up = prefix + "mlp.c_fc", .down = prefix + "mlp.c_proj"};
  return names;
}

absl::StatusOr<std::unique_ptr<Model>> BuildPanguAlpha(ModelConfig config, WeightReader& reader,
                                                       const LoadOptions& options, ThreadPool& pool) {
  // What an older converter calls c_proj.
  const bool is_older = reader.Has("transformer.h.0.attn.out_proj.bias");
  DecoderNames names = {.embedding = "transformer.wte.weight",
                        .positions = "transformer.wpe.weight",
                        .final_norm = "transformer.ln_f",
                        .pads_embedding = true};
  names.layer = [=](int layer) { return PanguAlphaLayerNames(layer, is_older ? "attn.out_proj" : "attn.c_proj"); };
  return LoadDecoderModel(std::move(config), names, reader, options, pool);
}

}  // namespace

constexpr ModelFamily kPanguAlphaFamily = {"GPTPanguForCausalLM", "gpt_pangu", ReadPanguAlphaConfig, BuildPanguAlpha};

}  // namespace expertd
