#include "engine/models/step_cost.h"

#include <gtest/gtest.h>

namespace expertd {
namespace {

// Two layers, hidden 64, 4 heads and 2 K/V heads of 32, vocabulary 96: one dense layer of width 128, one of 8 experts
// of width 32, 2 for each token.
ModelConfig SmallModel() {
  ModelConfig config;
  config.hidden_size = 64;
  config.vocab_size = 96;
  config.attention = GqaSpec{.num_heads = 4, .num_kv_heads = 2, .head_dim = 32};
  config.layers.resize(2);
  config.layers[0].ffn = DenseSpec{128};
  config.layers[1].ffn = MoeSpec{.num_experts = 8, .experts_per_token = 2, .expert_intermediate_size = 32};
  return config;
}

TEST(StepCostTest, CountsEachMatrixOnceAndEachRowsProducts) {
  const StepCost cost = CostOfStep(SmallModel(), WeightFormat::kBF16, KvFormat::kBF16,
                                   {.num_rows = 10, .num_logits_rows = 3, .experts_per_layer = 5.0});

  const double attention = 64 * (128 + 2 * 64) + 128 * 64, dense = 3 * 64 * 128, expert = 3 * 64 * 32, head = 96 * 64;
  // The router is in fp32, in a panel of 32 outputs.
  EXPECT_EQ(cost.weight_bytes, 2 * (2 * attention + dense + 5 * expert + head) + 4 * 32 * 64);
  EXPECT_EQ(cost.matrix_operations, 2 * (10 * (2 * attention + dense + 2 * expert + 8 * 64) + 3 * head));
}

TEST(StepCostTest, CountsTheCacheAndItsKeys) {
  const StepCost cost = CostOfStep(SmallModel(), WeightFormat::kInt8, KvFormat::kF32,
                                   {.num_rows = 1, .num_cached_tokens = 7, .num_attended_keys = 7});

  EXPECT_EQ(cost.kv_bytes, 7 * 2 * 2 * 64 * 4);
  EXPECT_EQ(cost.attention_operations, 2 * 4 * 7 * 128);
}

}  // namespace
}  // namespace expertd
