#include "engine/models/model_config.h"

#include <algorithm>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/models/registry.h"
#include "engine/tensor/panel_layout.h"

namespace expertd {
namespace {

// config.json is a page; anything larger is not one.
constexpr int64_t kMaxConfigBytes = 4 << 20;

int64_t AttentionMatrixParameters(const ModelConfig& config) {
  const GqaSpec& spec = config.attention;
  const int64_t query_width = int64_t{spec.num_heads} * spec.head_dim;
  const int64_t kv_width = int64_t{spec.num_kv_heads} * spec.head_dim;
  return config.hidden_size * (2 * query_width + 2 * kv_width);
}

// Norms and biases: what stays in fp32.
int64_t LayerVectorParameters(const ModelConfig& config) {
  const GqaSpec& spec = config.attention;
  int64_t count = 2 * int64_t{config.hidden_size};
  if (spec.has_qkv_bias) count += int64_t{spec.num_heads + 2 * spec.num_kv_heads} * spec.head_dim;
  if (spec.has_output_bias) count += config.hidden_size;
  if (spec.has_qk_norm) count += 2 * int64_t{spec.head_dim};
  return count;
}

struct FfnParameters {
  int64_t total = 0;
  int64_t active = 0;
  int64_t router = 0;  // in both of the above
};

FfnParameters CountFfn(const LayerSpec& layer, int64_t hidden_size) {
  if (const auto* dense = std::get_if<DenseSpec>(&layer.ffn)) {
    const int64_t count = 3 * hidden_size * dense->intermediate_size;
    return {count, count, 0};
  }
  const MoeSpec& moe = std::get<MoeSpec>(layer.ffn);
  const int64_t expert = 3 * hidden_size * moe.expert_intermediate_size;
  const int64_t router = hidden_size * moe.num_experts;
  return {router + moe.num_experts * expert, router + moe.experts_per_token * expert, router};
}

// down(silu(gate(x)) * up(x)), gate and up in one matrix of panels that alternate.
int64_t GatedBytes(WeightFormat format, int hidden_size, int width) {
  return 2 * PackedBytes(format, width, hidden_size) + PackedBytes(format, hidden_size, width);
}

int64_t FeedForwardBytes(const LayerSpec& layer, int hidden_size, WeightFormat format) {
  if (const auto* dense = std::get_if<DenseSpec>(&layer.ffn)) {
    return GatedBytes(format, hidden_size, dense->intermediate_size);
  }
  const MoeSpec& moe = std::get<MoeSpec>(layer.ffn);
  return PackedBytes(WeightFormat::kF32, moe.num_experts, hidden_size) +
         moe.num_experts * GatedBytes(format, hidden_size, moe.expert_intermediate_size);
}

int64_t EmbeddingParameters(const ModelConfig& config) {
  return int64_t{config.vocab_size} * config.hidden_size * (config.ties_embeddings ? 1 : 2);
}

int64_t VectorParameters(const ModelConfig& config) {
  return config.hidden_size + config.num_layers() * LayerVectorParameters(config);
}

}  // namespace

int64_t ModelConfig::max_positions() const {
  constexpr double kMost = 1 << 26;  // as many as max_position_embeddings may have
  double stretched = 0.0;
  if (const auto* yarn = std::get_if<YarnRope>(&rope.scaling)) {
    stretched = static_cast<double>(yarn->original_max_positions) * yarn->factor;
  }
  return std::max(max_position_embeddings, static_cast<int64_t>(std::min(stretched, kMost)));
}

absl::StatusOr<ModelConfig> ParseModelConfig(const Json& json) {
  if (!json.is_object()) return absl::InvalidArgumentError("must be a JSON object");
  ASSIGN_OR_RETURN(const ModelFamily* const family, FindFamily(json));
  return family->read_config(json);
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& dir) {
  const std::string path = dir + "/config.json";
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path, kMaxConfigBytes));
  absl::StatusOr<ModelConfig> config = ParseModelConfig(json);
  if (config.ok()) return config;
  return absl::Status(config.status().code(), StrCat(path, ": ", ToStdView(config.status().message())));
}

ParameterCount CountParameters(const ModelConfig& config) {
  ParameterCount count;
  count.total = EmbeddingParameters(config) + VectorParameters(config);
  count.active = int64_t{config.vocab_size} * config.hidden_size + VectorParameters(config);
  for (const LayerSpec& layer : config.layers) {
    const FfnParameters ffn = CountFfn(layer, config.hidden_size);
    count.total += AttentionMatrixParameters(config) + ffn.total;
    count.active += AttentionMatrixParameters(config) + ffn.active;
  }
  return count;
}

WeightFormat HeadFormat(WeightFormat format) { return IsInteger(format) ? WeightFormat::kInt8 : format; }

DType EmbeddingDType(WeightFormat format) { return format == WeightFormat::kF32 ? DType::kF32 : DType::kBF16; }

int64_t WeightBytes(const ModelConfig& config, WeightFormat format) {
  const int hidden = config.hidden_size;
  const GqaSpec& attention = config.attention;
  const int query_width = attention.num_heads * attention.head_dim;
  const int kv_width = attention.num_kv_heads * attention.head_dim;
  const int64_t attention_bytes =
      PackedBytes(format, query_width + 2 * kv_width, hidden) + PackedBytes(format, hidden, query_width);
  int64_t total = VectorParameters(config) * int64_t{sizeof(float)} +
                  PackedBytes(HeadFormat(format), config.vocab_size, hidden);
  if (!config.ties_embeddings) total += int64_t{config.vocab_size} * hidden * DTypeBytes(EmbeddingDType(format));
  for (const LayerSpec& layer : config.layers) total += attention_bytes + FeedForwardBytes(layer, hidden, format);
  return total;
}

int64_t KvBytesPerToken(const ModelConfig& config, KvFormat format) {
  return int64_t{2} * config.num_layers() * config.attention.num_kv_heads *
         KvTokenBytes(format, config.attention.head_dim);
}

}  // namespace expertd
