#include "engine/models/model_sizes.h"

#include <algorithm>
#include <variant>

#include "engine/tensor/panel_layout.h"

namespace expertd {
namespace {

// One layer's part of the model. `vectors` counts norms and biases: what stays in fp32.
struct Collector {
  std::vector<MatrixUse>& matrices;
  int64_t& vectors;
  int64_t hidden;

  void Add(int64_t rows, int64_t cols, MatrixRole role = MatrixRole::kWeight) const {
    matrices.push_back({.rows = rows, .cols = cols, .role = role});
  }

  // Keys and values of the stream, queries of a table [num_positions, query width].
  void AddQueryLayer(const GqaSpec& spec, int64_t num_positions) const {
    const int64_t query_width = int64_t{spec.num_heads} * spec.head_dim;
    const int64_t kv_width = int64_t{spec.num_kv_heads} * spec.head_dim;
    Add(2 * kv_width, hidden);
    Add(hidden, query_width);
    vectors += num_positions * query_width;
    if (spec.has_qkv_bias) vectors += 2 * kv_width;
    if (spec.has_output_bias) vectors += hidden;
  }

  void operator()(const GqaSpec& spec) const {
    const int64_t query_width = int64_t{spec.num_heads} * spec.head_dim;
    const int64_t kv_width = int64_t{spec.num_kv_heads} * spec.head_dim;
    Add(query_width + 2 * kv_width, hidden);
    Add(hidden, query_width);
    if (spec.has_qkv_bias) vectors += query_width + 2 * kv_width;
    if (spec.has_output_bias) vectors += hidden;
    if (spec.has_qk_norm) vectors += 2 * int64_t{spec.head_dim};
  }

  void operator()(const MlaSpec& spec) const {
    const int64_t query_width = int64_t{spec.num_heads} * spec.query_head_dim();
    const int64_t down_width = spec.cached_dim() + (spec.q_lora_rank > 0 ? spec.q_lora_rank : query_width);
    Add(down_width, hidden);
    if (spec.q_lora_rank > 0) Add(query_width, spec.q_lora_rank);
    // kv_b, head by head: its part for keys is applied to queries, that for values to what attention yields.
    matrices.push_back({.rows = spec.kv_lora_rank,
                        .cols = spec.qk_nope_head_dim,
                        .count = spec.num_heads,
                        .active = spec.num_heads,
                        .role = MatrixRole::kLatentUp});
    matrices.push_back({.rows = spec.v_head_dim,
                        .cols = spec.kv_lora_rank,
                        .count = spec.num_heads,
                        .active = spec.num_heads,
                        .role = MatrixRole::kLatentUp});
    Add(hidden, int64_t{spec.num_heads} * spec.v_head_dim);
    vectors += spec.kv_lora_rank + spec.q_lora_rank;
    if (spec.has_bias) vectors += spec.q_lora_rank + spec.cached_dim() + hidden;
  }

  // down(silu(gate(x)) * up(x)).
  void AddGated(int64_t width, int64_t count, int64_t active) const {
    const MatrixUse gate = {.rows = width, .cols = hidden, .count = count, .active = active};
    const MatrixUse down = {.rows = hidden, .cols = width, .count = count, .active = active};
    matrices.insert(matrices.end(), {gate, /*up*/ gate, down});
  }

  void operator()(const DenseSpec& spec) const { AddGated(spec.intermediate_size, 1, 1); }

  void operator()(const PlainSpec& spec) const {
    Add(spec.intermediate_size, hidden);
    Add(hidden, spec.intermediate_size);
    vectors += spec.intermediate_size + hidden;
  }

  void operator()(const MoeSpec& spec) const {
    Add(spec.num_experts, hidden, MatrixRole::kRouter);
    AddGated(spec.expert_intermediate_size, spec.num_experts, spec.experts_per_token);
    if (spec.shared_intermediate_size > 0) AddGated(spec.shared_intermediate_size, 1, 1);
    if (!std::holds_alternative<SoftmaxTopKRouter>(spec.router)) vectors += spec.num_experts;  // biases or scales
  }
};

struct Inventory {
  std::vector<MatrixUse> matrices;
  int64_t vectors = 0;
};

Inventory InventoryOf(const ModelConfig& config) {
  Inventory inventory;
  const Collector collector = {inventory.matrices, inventory.vectors, config.hidden_size};
  const int64_t norm = int64_t{config.hidden_size} * (config.norm.kind == NormKind::kLayer ? 2 : 1);
  for (int i = 0; i < config.num_layers(); ++i) {
    inventory.vectors += 2 * norm;  // before attention and feed-forward
    if (config.ends_with_query_layer && i == config.num_layers() - 1) {
      collector.AddQueryLayer(std::get<GqaSpec>(config.attention), config.max_position_embeddings);
    } else {
      std::visit(collector, config.attention);
    }
    std::visit(collector, config.layers[i].ffn);
  }
  inventory.vectors += norm;  // the final one
  if (config.has_position_table) inventory.vectors += config.max_position_embeddings * config.hidden_size;
  collector.Add(config.vocab_size, config.hidden_size, MatrixRole::kHead);
  return inventory;
}

// Parameters of the embedding when it is not the head.
int64_t TableParameters(const ModelConfig& config) {
  return config.ties_embeddings ? 0 : int64_t{config.vocab_size} * config.hidden_size;
}

// Parameters that are multiplied out when they are loaded: of the query layer, whose query table takes the place of the
// one that they are multiplied with.
int64_t FoldedParameters(const ModelConfig& config) {
  if (!config.ends_with_query_layer) return 0;
  const GqaSpec& spec = std::get<GqaSpec>(config.attention);
  const int64_t query_width = int64_t{spec.num_heads} * spec.head_dim;
  const int64_t table_growth = config.max_position_embeddings * (config.hidden_size - query_width);
  return query_width * (config.hidden_size + (spec.has_qkv_bias ? 1 : 0)) + table_growth;
}

}  // namespace

WeightFormat FormatOf(MatrixRole role, WeightFormat format) {
  switch (role) {
    case MatrixRole::kWeight:
      return format;
    case MatrixRole::kRouter:
      return WeightFormat::kF32;
    case MatrixRole::kLatentUp:
      return FloatFormat(format);
    case MatrixRole::kHead:
      return IsInteger(format) ? WeightFormat::kInt8 : format;
  }
  return format;
}

int64_t MatrixBytes(const MatrixUse& use, WeightFormat format) {
  return PackedBytes(FormatOf(use.role, format), static_cast<int>(use.rows), static_cast<int>(use.cols));
}

std::vector<MatrixUse> MatricesOf(const ModelConfig& config) { return InventoryOf(config).matrices; }

ParameterCount CountParameters(const ModelConfig& config) {
  const Inventory inventory = InventoryOf(config);
  ParameterCount count = {inventory.vectors + TableParameters(config) + FoldedParameters(config), inventory.vectors};
  for (const MatrixUse& use : inventory.matrices) {
    count.total += use.count * use.rows * use.cols;
    count.active += use.active * use.rows * use.cols;
  }
  return count;
}

int64_t WeightBytes(const ModelConfig& config, WeightFormat format) {
  const Inventory inventory = InventoryOf(config);
  int64_t total =
      inventory.vectors * int64_t{sizeof(float)} + TableParameters(config) * DTypeBytes(EmbeddingDType(format));
  for (const MatrixUse& use : inventory.matrices) total += use.count * MatrixBytes(use, format);
  return total;
}

DType EmbeddingDType(WeightFormat format) { return format == WeightFormat::kF32 ? DType::kF32 : DType::kBF16; }

int64_t ActivationBytesPerRow(const ModelConfig& config) {
  // Outputs of every product of a layer and its inputs in a form of half the size, as if all lived at once; the widest
  // layer counts.
  int64_t widest = 0;
  for (const LayerSpec& layer : config.layers) {
    std::vector<MatrixUse> matrices;
    int64_t vectors = 0;
    const Collector collector = {matrices, vectors, config.hidden_size};
    std::visit(collector, config.attention);
    std::visit(collector, layer.ffn);
    int64_t width = 0;
    for (const MatrixUse& use : matrices) width += use.active * (use.rows + use.cols / 2);
    widest = std::max(widest, width);
  }
  return int64_t{sizeof(float)} * (4 * int64_t{config.hidden_size} + widest);
}

KvCacheSpec KvSpecFor(const ModelConfig& config, int block_size, int64_t num_blocks, KvFormat format) {
  KvCacheSpec spec = {.num_layers = config.num_layers(),
                      .block_size = block_size,
                      .num_blocks = num_blocks,
                      .format = format};
  if (const auto* gqa = std::get_if<GqaSpec>(&config.attention)) {
    spec.num_kv_heads = gqa->num_kv_heads;
    spec.head_dim = spec.value_dim = gqa->head_dim;
  } else {
    const MlaSpec& mla = std::get<MlaSpec>(config.attention);
    spec.num_kv_heads = 1;
    spec.head_dim = mla.cached_dim();
    spec.value_dim = mla.kv_lora_rank;
    spec.has_values = false;
  }
  return spec;
}

int64_t KvBytesPerToken(const ModelConfig& config, KvFormat format) {
  constexpr int kBlockSize = 16;  // of any valid size: tiles have no rest
  return KvSpecFor(config, kBlockSize, 1, format).BlockBytes() / kBlockSize;
}

}  // namespace expertd
