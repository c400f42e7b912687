#include "engine/layers/embedding.h"

#include <cstring>

#include "engine/layers/work_split.h"

namespace expertd {
Embedding Embedding::TiedTo(const Linear& head) {
  Embedding embedding;
  embedding.width_ = head.num_inputs();
  embedding.head_ = &head;
  return embedding;
}

void Embedding::Forward(std::span<const int32_t> tokens, float* out, ForwardContext& context) const {
  // An element of a packed row is a cache line of its own; one of a table is nearly free. Counted as the former.
  constexpr int64_t kElementWork = 32;
  ParallelRows(context.pool, static_cast<int>(tokens.size()), kElementWork * width_, [&](int begin, int end, int) {
    for (int row = begin; row < end; ++row) CopyRow(tokens[row], out + int64_t{row} * width_);
  });
}

void Embedding::CopyRow(int32_t token, float* out) const {
  if (head_ != nullptr) {
    head_->weight().CopyRow(token, out);
    return;
  }
  const int64_t offset = int64_t{token} * width_;
  if (dtype_ == DType::kF32) {
    std::memcpy(out, reinterpret_cast<const float*>(table_.data) + offset, static_cast<size_t>(width_) * sizeof(float));
    return;
  }
  const BFloat16* const row = reinterpret_cast<const BFloat16*>(table_.data) + offset;
  for (int i = 0; i < width_; ++i) out[i] = ToFloat(row[i]);
}

void PositionEmbedding::AddTo(std::span<const int32_t> positions, float* residual, ForwardContext& context) const {
  const auto* const table = reinterpret_cast<const float*>(table_.data);
  ParallelRows(context.pool, static_cast<int>(positions.size()), width_, [&](int begin, int end, int) {
    for (int64_t row = begin; row < end; ++row) {
      context.kernels.add(table + int64_t{positions[row]} * width_, width_, residual + row * width_);
    }
  });
}

}  // namespace expertd
