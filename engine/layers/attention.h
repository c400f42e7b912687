// Attention: the interface that decoder layers use.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/forward/forward_context.h"
#include "engine/kv/kv_cache.h"
#include "engine/layers/attention_step.h"
#include "engine/layers/input_rows.h"
#include "engine/layers/layer_specs.h"

namespace expertd {

// Immutable; concurrent calls with different caches and contexts are safe.
class Attention {
 public:
  virtual ~Attention() = default;

  virtual int64_t size_bytes() const = 0;

  // What AddTo takes x as.
  virtual InputNeeds input_needs(const Kernels& kernels) const = 0;

  // Stores K and V of all rows in layer `layer` of `kv`, then residual += attention(x).
  // x, residual: [num_tokens, hidden], not overlapping, residual contiguous.
  virtual void AddTo(const LayerInput& x, const AttentionStep& step, int layer, KvCache& kv, float* residual,
                     ForwardContext& context) const = 0;
};

// How a step of layers with `spec` is cut.
AttentionShape ShapeOf(const GqaSpec& spec);
AttentionShape ShapeOf(const MlaSpec& spec);
inline AttentionShape ShapeOf(const AttentionSpec& attention) {
  return std::visit([](const auto& spec) { return ShapeOf(spec); }, attention);
}

// Names of the tensors of one attention layer, each without ".weight" or ".bias".
struct GqaNames {
  std::string q, k, v, output;
  std::string q_norm, k_norm;  // used when the spec has them
  std::string query_table;     // of LoadQueryAttention
};

// Grouped-query attention (arXiv 2305.13245): q, k, v in one product; optional RMSNorm of each q and k head before the
// rotation. Errors: as WeightReader.
absl::StatusOr<std::unique_ptr<Attention>> LoadGqaAttention(const GqaSpec& spec, int hidden_size, double rms_norm_eps,
                                                            const GqaNames& names, WeightReader& reader);

// Grouped-query attention whose queries are learned, not made of x: that of position p is q applied to row p of the
// query table [num_positions, hidden], which is computed here once, in fp32. Keys and values are made of x. Errors: as
// WeightReader; Unimplemented when `spec` has norms or rotation.
absl::StatusOr<std::unique_ptr<Attention>> LoadQueryAttention(const GqaSpec& spec, int hidden_size, int num_positions,
                                                              const GqaNames& names, WeightReader& reader);

// Names of the tensors of one latent attention layer, each without ".weight" or ".bias".
struct MlaNames {
  std::string q;                     // used when the spec has no q_lora_rank, otherwise:
  std::string q_down, q_norm, q_up;  // "q_a", "q_b"
  std::string kv_down, kv_norm, kv_up;
  std::string output;
};

// Multi-head latent attention (arXiv 2405.04434) in the absorbed form at every length: kv_up is applied to queries and
// to what attention yields, so that keys and values are never made of the cached latents. The naive form would take
// fewer operations for long prompts, but other bits than decoding, and the bits of a row must not depend on how its
// prompt was cut. Errors: as WeightReader.
absl::StatusOr<std::unique_ptr<Attention>> LoadMlaAttention(const MlaSpec& spec, int hidden_size, double rms_norm_eps,
                                                            const MlaNames& names, WeightReader& reader);

}  // namespace expertd
