// The specs of layers: plain values that say what a layer is. Model configs are made of them, layers built from them.
#pragma once

#include <cstdint>
#include <variant>

namespace expertd {

// Plain rotary embedding: inverse frequency i is theta^(-2i / rotary_dim).
struct PlainRope {};

// Positions divided by `factor`.
struct LinearRope {
  double factor = 1.0;
};

// Static YaRN (arXiv 2309.00071): frequencies between the two corrections blend from plain to divided by `factor`;
// cosines and sines are multiplied by `attention_factor`. It applies at every length.
struct YarnRope {
  double factor = 1.0;
  int64_t original_max_positions = 0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double attention_factor = 1.0;
  bool truncate = true;  // correction dimensions are rounded outwards to whole ones
};

struct RopeSpec {
  double theta = 10000.0;
  int rotary_dim = 0;  // even, at most head_dim
  std::variant<PlainRope, LinearRope, YarnRope> scaling;
};

// Grouped-query attention: query head h reads K/V head h / (num_heads / num_kv_heads).
struct GqaSpec {
  int num_heads = 0;
  int num_kv_heads = 0;  // divides num_heads
  int head_dim = 0;      // not necessarily hidden_size / num_heads
  bool has_qkv_bias = false;
  bool has_output_bias = false;
  bool has_qk_norm = false;  // RMSNorm of each q and k head before the rotation
};

// down(silu(gate(x)) * up(x)).
struct DenseSpec {
  int intermediate_size = 0;
};

// Softmax over all experts in fp32, then the best `experts_per_token`; the lower expert index wins a tie.
struct SoftmaxTopKRouter {
  bool normalizes_top_k = true;  // chosen probabilities are divided by their sum
};

struct MoeSpec {
  int num_experts = 0;
  int experts_per_token = 0;
  int expert_intermediate_size = 0;
  SoftmaxTopKRouter router;
};

}  // namespace expertd
