#include "engine/models/step_cost.h"

#include <variant>

#include "engine/tensor/panel_layout.h"

namespace expertd {
namespace {

// A matrix that `num_rows` rows are multiplied with, `count` of them with as many rows each on the mean.
void AddProducts(WeightFormat format, int64_t outputs, int64_t inputs, double num_rows, double count, StepCost& cost) {
  cost.weight_bytes += count * static_cast<double>(PackedBytes(format, static_cast<int>(outputs),
                                                               static_cast<int>(inputs)));
  cost.matrix_operations += 2.0 * num_rows * static_cast<double>(outputs) * static_cast<double>(inputs);
}

void AddFeedForward(const LayerSpec& layer, int hidden, WeightFormat format, const StepShape& shape, StepCost& cost) {
  const auto rows = static_cast<double>(shape.num_rows);
  if (const auto* dense = std::get_if<DenseSpec>(&layer.ffn)) {
    AddProducts(format, 2 * int64_t{dense->intermediate_size}, hidden, rows, 1, cost);
    AddProducts(format, hidden, dense->intermediate_size, rows, 1, cost);
    return;
  }
  const MoeSpec& moe = std::get<MoeSpec>(layer.ffn);
  const double expert_rows = rows * moe.experts_per_token;
  AddProducts(WeightFormat::kF32, moe.num_experts, hidden, rows, 1, cost);
  AddProducts(format, 2 * int64_t{moe.expert_intermediate_size}, hidden, expert_rows, shape.experts_per_layer, cost);
  AddProducts(format, hidden, moe.expert_intermediate_size, expert_rows, shape.experts_per_layer, cost);
}

}  // namespace

StepCost CostOfStep(const ModelConfig& config, WeightFormat format, KvFormat kv_format, const StepShape& shape) {
  const GqaSpec& attention = config.attention;
  const int64_t query_width = int64_t{attention.num_heads} * attention.head_dim;
  const int64_t kv_width = int64_t{attention.num_kv_heads} * attention.head_dim;
  const auto rows = static_cast<double>(shape.num_rows);
  StepCost cost;
  for (const LayerSpec& layer : config.layers) {
    AddProducts(format, query_width + 2 * kv_width, config.hidden_size, rows, 1, cost);
    AddProducts(format, config.hidden_size, query_width, rows, 1, cost);
    AddFeedForward(layer, config.hidden_size, format, shape, cost);
    cost.attention_operations += 4.0 * static_cast<double>(shape.num_attended_keys * query_width);
  }
  AddProducts(HeadFormat(format), config.vocab_size, config.hidden_size, static_cast<double>(shape.num_logits_rows), 1,
              cost);
  cost.kv_bytes = static_cast<double>(shape.num_cached_tokens * KvBytesPerToken(config, kv_format));
  return cost;
}

}  // namespace expertd
