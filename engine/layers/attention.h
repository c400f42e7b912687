// Attention: the interface that decoder layers use, and what all layers of a step share - where each row is, which
// angles it turns by, and how the work is cut.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/forward/forward_batch.h"
#include "engine/forward/forward_context.h"
#include "engine/kv/kv_cache.h"
#include "engine/layers/input_rows.h"
#include "engine/layers/layer_specs.h"
#include "engine/layers/rope.h"

namespace expertd {

// Floats of all partial results of a step, which sequences share by their work: keys are not cut where these would be
// more, as they would for many rows, which are enough parts without.
inline constexpr int64_t kMaxAttentionPartialFloats = 4 << 20;

// A part of the attention of a step: some rows of one sequence, some K/V heads, and where these are too few for the
// threads, some of the keys.
struct AttentionPart {
  int32_t sequence = 0;
  int32_t row_begin = 0;  // of the batch
  int32_t num_rows = 0;
  int32_t kv_head_begin = 0;
  int32_t kv_head_end = 0;
  int32_t key_part_begin = 0;  // of kAttentionPartKeys keys each; used only with partials
  int32_t key_part_end = 0;
  float* partials = nullptr;  // shared by the parts of the rows, as AttentionArgs says; null: all keys
};

// The step as attention sees it: made once, used by every layer. Arrays live in the scratch arena.
struct AttentionStep {
  const ForwardBatch* batch = nullptr;
  const int64_t* slots = nullptr;   // [num_tokens] block * block_size + offset: where the row's K and V go
  const RopeRow* angles = nullptr;  // [num_tokens]
  std::span<const AttentionPart> parts;
  std::span<const AttentionPart> merges;  // rows and K/V heads whose keys were cut: merged when all parts are done
  bool parts_are_sequences = false;  // part i is sequence i, all rows and heads
  int64_t part_scratch_floats = 0;   // scratch that a part needs at most
};

// Lays out `batch`; positions must lie within the block tables, blocks within `kv`, positions within `rope` (CHECKed).
// The arrays are taken from context.scratch, in the caller's scope.
AttentionStep PlanAttention(const ForwardBatch& batch, const GqaSpec& spec, KvCache& kv, const RopeTable& rope,
                            ForwardContext& context);

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

// Names of the tensors of one attention layer, each without ".weight" or ".bias".
struct GqaNames {
  std::string q, k, v, output;
  std::string q_norm, k_norm;  // used when the spec has them
};

// Grouped-query attention (arXiv 2305.13245): q, k, v in one product; optional RMSNorm of each q and k head before the
// rotation. Errors: as WeightReader.
absl::StatusOr<std::unique_ptr<Attention>> LoadGqaAttention(const GqaSpec& spec, int hidden_size, double rms_norm_eps,
                                                            const GqaNames& names, WeightReader& reader);

}  // namespace expertd
