// DecoderLayer: norm, attention, add, norm, feed-forward, add - one transformer layer (pre-norm).
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "engine/forward/forward_context.h"
#include "engine/kv/kv_cache.h"
#include "engine/layers/attention.h"
#include "engine/layers/feed_forward.h"
#include "engine/layers/norm.h"

namespace expertd {

// Immutable after it is put together; concurrent calls with different caches and contexts are safe.
struct DecoderLayer {
  std::unique_ptr<Norm> attention_norm;
  std::unique_ptr<Attention> attention;
  std::unique_ptr<Norm> feed_forward_norm;
  std::unique_ptr<FeedForward> feed_forward;

  int64_t size_bytes() const;

  // residual: [num_tokens of the step, hidden]; K and V of all rows go to layer `layer` of `kv`.
  void AddAttention(const AttentionStep& step, int layer, KvCache& kv, float* residual, ForwardContext& context) const;

  // residual: [num_rows, hidden]. Rows are independent of each other.
  void AddFeedForward(int num_rows, float* residual, ForwardContext& context) const;
};

}  // namespace expertd
