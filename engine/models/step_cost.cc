#include "engine/models/step_cost.h"

#include <variant>

#include "engine/models/model_sizes.h"

namespace expertd {
namespace {

// Multiply-adds that one query and one key of a layer take over all heads: q . k and p . v.
double AttendedKeyWork(const AttentionSpec& attention) {
  if (const auto* gqa = std::get_if<GqaSpec>(&attention)) return 2.0 * gqa->num_heads * gqa->head_dim;
  const MlaSpec& mla = std::get<MlaSpec>(attention);
  return static_cast<double>(mla.num_heads) * (mla.cached_dim() + mla.kv_lora_rank);
}

}  // namespace

StepCost CostOfStep(const ModelConfig& config, WeightFormat format, KvFormat kv_format, const StepShape& shape) {
  StepCost cost;
  for (const MatrixUse& use : MatricesOf(config)) {
    const int64_t rows = use.role == MatrixRole::kHead ? shape.num_logits_rows : shape.num_rows;
    const double read = use.is_expert() ? shape.experts_per_layer : static_cast<double>(use.count);
    cost.weight_bytes += read * static_cast<double>(MatrixBytes(use, format));
    cost.matrix_operations += 2.0 * static_cast<double>(rows * use.active * use.rows * use.cols);
  }
  const auto query_keys = static_cast<double>(shape.num_attended_keys * config.num_layers());
  cost.attention_operations = 2.0 * query_keys * AttendedKeyWork(config.attention);
  cost.kv_bytes = static_cast<double>(shape.num_cached_tokens * KvBytesPerToken(config, kv_format));
  return cost;
}

}  // namespace expertd
