// FeedForward: the second half of a decoder layer, dense or sparse.
#pragma once

#include <cstdint>

#include "engine/forward/forward_context.h"
#include "engine/layers/input_rows.h"

namespace expertd {

// Immutable; concurrent calls with different contexts are safe.
class FeedForward {
 public:
  virtual ~FeedForward() = default;

  virtual int64_t size_bytes() const = 0;

  // What AddTo takes x as.
  virtual InputNeeds input_needs(const Kernels& kernels) const = 0;

  // residual += feed_forward(x); both [num_rows, hidden], not overlapping, residual contiguous. A row depends on its
  // own x only.
  virtual void AddTo(const LayerInput& x, int num_rows, float* residual, ForwardContext& context) const = 0;
};

}  // namespace expertd
