#include "engine/layers/decoder_layer.h"

namespace expertd {

int64_t DecoderLayer::size_bytes() const {
  return attention_norm->size_bytes() + attention->size_bytes() + feed_forward_norm->size_bytes() +
         feed_forward->size_bytes();
}

void DecoderLayer::AddAttention(const AttentionStep& step, int layer, KvCache& kv, float* residual,
                                ForwardContext& context) const {
  ScratchArena::Scope scope(context.scratch);
  const int num_rows = step.batch->num_tokens();
  const InputNeeds needs = attention->input_needs(context.kernels);
  const LayerInput normed = attention_norm->Forward(residual, num_rows, needs, context);
  attention->AddTo(normed, step, layer, kv, residual, context);
}

void DecoderLayer::AddFeedForward(int num_rows, float* residual, ForwardContext& context) const {
  ScratchArena::Scope scope(context.scratch);
  const InputNeeds needs = feed_forward->input_needs(context.kernels);
  const LayerInput normed = feed_forward_norm->Forward(residual, num_rows, needs, context);
  feed_forward->AddTo(normed, num_rows, residual, context);
}

}  // namespace expertd
