// AttentionStep: what all attention layers of a step share - where each row is, which angles it turns by, and how the
// work is cut - and the run of a layer's attention over the pool by that cut.
#pragma once

#include <cstdint>
#include <span>

#include "absl/functional/function_ref.h"
#include "engine/forward/forward_batch.h"
#include "engine/forward/forward_context.h"
#include "engine/kernels/kernels.h"
#include "engine/kv/kv_cache.h"
#include "engine/layers/rope.h"

namespace expertd {

// Floats of all partial results of a step, which sequences share by their work: keys are not cut where these would be
// more, as they would for many rows, which are enough parts without.
inline constexpr int64_t kMaxAttentionPartialFloats = 4 << 20;

// The heads of an attention layer as the cut sees them. Heads of a group read the same keys and are attended to
// together: those of a K/V head, or a share of those that read a latent cache.
struct AttentionShape {
  int num_heads = 0;
  int num_groups = 0;  // divides num_heads
  int key_dim = 0;
  int value_dim = 0;
  bool shares_keys = false;  // all groups read the same keys: there is one K/V head

  int group_heads() const { return num_heads / num_groups; }
};

// A part of the attention of a step: some rows of one sequence, some groups of heads, and where these are too few for
// the threads, some of the keys.
struct AttentionPart {
  int32_t sequence = 0;
  int32_t row_begin = 0;  // of the batch
  int32_t num_rows = 0;
  int32_t group_begin = 0;
  int32_t group_end = 0;
  int32_t key_part_begin = 0;  // of kAttentionPartKeys keys each; used only with partials
  int32_t key_part_end = 0;
  float* partials = nullptr;  // shared by the parts of the rows, as AttentionArgs says; null: all keys
};

// Made once per step, used by every layer. Arrays live in the scratch arena.
struct AttentionStep {
  const ForwardBatch* batch = nullptr;
  AttentionShape shape;
  const int64_t* slots = nullptr;   // [num_tokens] block * block_size + offset: where the row's K and V go
  const RopeRow* angles = nullptr;  // [num_tokens]
  std::span<const AttentionPart> parts;
  std::span<const AttentionPart> merges;  // rows and groups whose keys were cut: merged when all parts are done
  bool parts_are_sequences = false;       // part i is sequence i, all rows and heads
  int64_t part_scratch_floats = 0;        // scratch that a part needs at most
};

// Lays out `batch`; positions must lie within the block tables, blocks within `kv`, positions within `rope` (CHECKed).
// The arrays are taken from context.scratch, in the caller's scope.
AttentionStep PlanAttention(const ForwardBatch& batch, const AttentionShape& shape, KvCache& kv, const RopeTable& rope,
                            ForwardContext& context);

// K and V of layer `layer`, as kernels take them.
PagedKvLayer PagedLayer(KvCache& kv, int layer);

// Queries [num_tokens, num_heads, key_dim] and room for the output [num_tokens, num_heads, value_dim], by rows.
struct AttentionRows {
  const float* queries = nullptr;
  int64_t query_stride = 0;
  float* output = nullptr;
  int64_t output_stride = 0;
};

// output = softmax(scale * q . k) v for all rows. `prepare(row)` is called once for each row before anyone reads its
// query or its keys, on the pool's threads, and may write both; preparing a row costs `prepare_work` multiply-adds.
void Attend(const AttentionStep& step, const AttentionRows& rows, float scale, const PagedKvLayer& layer,
            absl::FunctionRef<void(int row)> prepare, int64_t prepare_work, ForwardContext& context);

}  // namespace expertd
