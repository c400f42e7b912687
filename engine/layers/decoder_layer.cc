#include "engine/layers/decoder_layer.h"

namespace expertd {

int64_t DecoderLayer::size_bytes() const {
  return attention_norm.size_bytes() + attention->size_bytes() + feed_forward_norm.size_bytes() +
         feed_forward->size_bytes();
}

void DecoderLayer::AddAttention(const AttentionStep& step, int layer, KvCache& kv, float* residual,
                                ForwardContext& context) const {
  ScratchArena::Scope scope(context.scratch);
  const int num_rows = step.batch->num_tokens();
  float* const normed = context.scratch.Take<float>(int64_t{num_rows} * attention_norm.size());
  attention_norm.Forward(residual, num_rows, normed, context);
  attention->AddTo(normed, step, layer, kv, residual, context);
}

void DecoderLayer::AddFeedForward(int num_rows, float* residual, ForwardContext& context) const {
  ScratchArena::Scope scope(context.scratch);
  float* const normed = context.scratch.Take<float>(int64_t{num_rows} * feed_forward_norm.size());
  feed_forward_norm.Forward(residual, num_rows, normed, context);
  feed_forward->AddTo(normed, num_rows, residual, context);
}

}  // namespace expertd
