// Norms of rows, in fp32: RmsNorm, and LayerNorm, which takes the mean away as well.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/forward/forward_context.h"
#include "engine/layers/input_rows.h"

namespace expertd {

// Immutable; concurrent calls are safe.
class Norm {
 public:
  virtual ~Norm() = default;

  virtual int size() const = 0;
  virtual int64_t size_bytes() const = 0;

  // One row, on the calling thread; y may be x.
  virtual void Apply(const float* x, float* y, const Kernels& kernels) const = 0;

  // x [num_rows, size], contiguous, as a layer needs it; the result lives in the caller's scratch scope. Each row is
  // converted while it is in the cache. Cut over the pool by rows.
  LayerInput Forward(const float* x, int num_rows, InputNeeds needs, ForwardContext& context) const;

  // Rows in place. Cut over the pool.
  void ApplyInPlace(int num_rows, float* x, ForwardContext& context) const;
};

// y = x / sqrt(mean(x^2) + eps) * weight (arXiv 1910.07467), + bias where the weights were quantized about a shift.
class RmsNorm : public Norm {
 public:
  RmsNorm() = default;
  // `bias`: empty, or the size of `weight`.
  RmsNorm(std::vector<float> weight, double eps, std::vector<float> bias = {});

  int size() const override { return static_cast<int>(weight_.size()); }
  int64_t size_bytes() const override { return static_cast<int64_t>((weight_.size() + bias_.size()) * sizeof(float)); }
  void Apply(const float* x, float* y, const Kernels& kernels) const override;

 private:
  std::vector<float> weight_, bias_;
  float eps_ = 0.0f;
};

// `name`: of the tensors, without ".weight" or ".bias". Errors: as WeightReader.
absl::StatusOr<RmsNorm> LoadRmsNorm(const std::string& name, int size, double eps, WeightReader& reader);

// y = (x - mean) / sqrt(variance + eps) * weight + bias (arXiv 1607.06450), the variance divided by the size.
class LayerNorm : public Norm {
 public:
  // `bias` has the size of `weight`.
  LayerNorm(std::vector<float> weight, std::vector<float> bias, double eps)
      : weight_(std::move(weight)), bias_(std::move(bias)), eps_(static_cast<float>(eps)) {}

  int size() const override { return static_cast<int>(weight_.size()); }
  int64_t size_bytes() const override { return static_cast<int64_t>(2 * weight_.size() * sizeof(float)); }
  void Apply(const float* x, float* y, const Kernels& kernels) const override;

 private:
  std::vector<float> weight_, bias_;
  float eps_;
};

}  // namespace expertd
