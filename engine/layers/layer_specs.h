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
  int rotary_dim = 0;  // even, at most head_dim; 0: nothing is turned
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
  bool has_rope = true;      // q and k heads are turned by their position
};

inline constexpr int kMaxCachedDim = 4096;

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): the cache keeps one latent and one rotated key part for
// each token, which all heads share.
struct MlaSpec {
  int num_heads = 0;
  int q_lora_rank = 0;  // 0: queries are projected from x itself
  int kv_lora_rank = 0;
  int qk_nope_head_dim = 0;
  int qk_rope_head_dim = 0;
  int v_head_dim = 0;
  double score_scale = 1.0;          // multiplies q . k
  bool has_bias = false;             // of q_a, kv_a and the output; queries projected from x itself have none
  bool has_interleaved_rope = true;  // rows of the checkpoint pair neighbours (x0, x1), not halves

  int query_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  int cached_dim() const { return kv_lora_rank + qk_rope_head_dim; }  // of a token in a layer, at most kMaxCachedDim
};

using AttentionSpec = std::variant<GqaSpec, MlaSpec>;

enum class NormKind { kRms, kLayer };

// The norms of the residual stream.
struct NormSpec {
  NormKind kind = NormKind::kRms;
  double eps = 1e-6;
};

// down(silu(gate(x)) * up(x)).
struct DenseSpec {
  int intermediate_size = 0;
};

// The GELU (arXiv 1606.08415) itself, or its approximation by tanh.
enum class Gelu { kErf, kTanh };

// down(gelu(up(x) + b)) + b, a feed-forward without a gate.
struct PlainSpec {
  int intermediate_size = 0;
  Gelu gelu = Gelu::kErf;
};

// Rules by which a router chooses experts and weighs them, in fp32. The lower expert index wins a tie. Groups are runs
// of num_experts / num_groups experts, and only experts of the best `num_chosen_groups` groups take part.

// Softmax over all experts, then the best `experts_per_token` (Mixtral, Qwen-MoE; DeepSeek-V2 "greedy" and
// "group_limited_greedy"). A group counts as its best expert.
struct SoftmaxTopKRouter {
  bool normalizes_top_k = true;  // chosen probabilities are divided by their sum
  int num_groups = 1;
  int num_chosen_groups = 1;
  double scaling_factor = 1.0;  // multiplies the weights
};

// Sigmoid scores; experts are chosen by score plus a learned bias, and weighed by score alone (DeepSeek-V3 "noaux_tc",
// arXiv 2412.19437). A group counts as the sum of its best two.
struct SigmoidTopKRouter {
  bool normalizes_top_k = true;
  int num_groups = 1;
  int num_chosen_groups = 1;
  double scaling_factor = 1.0;  // multiplies the weights
};

// Mixture of grouped experts (Pangu Pro MoE, arXiv 2505.21411): softmax over all experts, then the best one of each of
// `experts_per_token` groups, weighed by its probability times a learned scale, without renormalization.
struct GroupedRouter {};

using RouterSpec = std::variant<SoftmaxTopKRouter, SigmoidTopKRouter, GroupedRouter>;

inline constexpr int kMaxExperts = 4096;

struct MoeSpec {
  int num_experts = 0;  // at most kMaxExperts
  int experts_per_token = 0;
  int expert_intermediate_size = 0;
  int shared_intermediate_size = 0;  // of the shared expert, whose output is added to the others'; 0: none
  RouterSpec router;
};

}  // namespace expertd
