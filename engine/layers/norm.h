// RmsNorm: y = x / sqrt(mean(x^2) + eps) * weight, per row (arXiv 1910.07467), in fp32.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/forward/forward_context.h"
#include "engine/layers/input_rows.h"

namespace expertd {

// Immutable; concurrent calls are safe.
class RmsNorm {
 public:
  RmsNorm() = default;
  RmsNorm(std::vector<float> weight, double eps) : weight_(std::move(weight)), eps_(static_cast<float>(eps)) {}

  int size() const { return static_cast<int>(weight_.size()); }
  int64_t size_bytes() const { return static_cast<int64_t>(weight_.size() * sizeof(float)); }

  // x [num_rows, size], contiguous, as a layer needs it; the result lives in the caller's scratch scope. Each row is
  // converted while it is in the cache. Cut over the pool by rows.
  LayerInput Forward(const float* x, int num_rows, InputNeeds needs, ForwardContext& context) const;

  // One row, on the calling thread; y may be x.
  void Apply(const float* x, float* y, const Kernels& kernels) const;

 private:
  std::vector<float> weight_;
  float eps_ = 0.0f;
};

}  // namespace expertd
