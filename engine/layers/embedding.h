// Embedding: token ids to rows of the embedding table - a table of its own, or the output head that it is tied to - and
// learned positions, which some families add to them.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "engine/forward/forward_context.h"
#include "engine/layers/linear.h"
#include "engine/platform/memory.h"
#include "engine/tensor/dtype.h"

namespace expertd {

// Immutable; concurrent calls are safe.
class Embedding {
 public:
  // A table of rows of `width`, one after the other, in `dtype` (kF32 or kBF16).
  Embedding(SharedBytes table, int width, DType dtype) : table_(std::move(table)), dtype_(dtype), width_(width) {}
  Embedding() = default;

  // Rows of the packed `head`, which must outlive the embedding.
  static Embedding TiedTo(const Linear& head);

  int width() const { return width_; }
  int64_t size_bytes() const { return table_.size_bytes; }

  // out: [tokens.size(), width]. Ids must be in range.
  void Forward(std::span<const int32_t> tokens, float* out, ForwardContext& context) const;

 private:
  void CopyRow(int32_t token, float* out) const;

  SharedBytes table_;  // empty when tied
  DType dtype_ = DType::kF32;
  int width_ = 0;
  const Linear* head_ = nullptr;  // null when not tied
};

// Immutable; concurrent calls are safe.
class PositionEmbedding {
 public:
  // `table`: rows of `width` floats, one for each position.
  PositionEmbedding(SharedBytes table, int width) : table_(std::move(table)), width_(width) {}
  PositionEmbedding() = default;

  int64_t size_bytes() const { return table_.size_bytes; }

  // residual [positions.size(), width] += the rows of `positions`, which must be in range.
  void AddTo(std::span<const int32_t> positions, float* residual, ForwardContext& context) const;

 private:
  SharedBytes table_;
  int width_ = 0;
};

}  // namespace expertd
