// Linear: y = x W^T + b over any WeightMatrix, cut over the pool by tiles of rows and columns.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/forward/forward_context.h"
#include "engine/kernels/kernels.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {

// Immutable; concurrent calls with different contexts are safe.
class Linear {
 public:
  Linear() = default;
  // `bias`: empty, or weight.rows() values.
  explicit Linear(WeightMatrix weight, std::vector<float> bias = {});

  int num_inputs() const { return weight_.cols(); }
  int num_outputs() const { return weight_.rows(); }
  const WeightMatrix& weight() const { return weight_; }
  const float* bias() const { return bias_.empty() ? nullptr : bias_.data(); }  // [num_outputs]; null: none
  int64_t size_bytes() const { return weight_.size_bytes() + static_cast<int64_t>(bias_.size() * sizeof(float)); }

  // The form in which Forward takes x.
  InputForm input_form(const Kernels& kernels) const { return InputFormOf(weight_.format(), kernels); }

  // y = x W^T + b. x: [num_rows, num_inputs]; y: [num_rows, num_outputs], row stride y_stride. x and y do not overlap.
  // fp32 accumulation.
  void Forward(const InputRows& x, int num_rows, float* y, int64_t y_stride, ForwardContext& context) const;

  // Forward of contiguous floats on the calling thread, for weights in f32.
  void ForwardHere(const float* x, int num_rows, float* y, const Kernels& kernels) const;

  // residual += x W^T + b, [num_rows, num_outputs] contiguous. x: row stride x_stride.
  void AddTo(const float* x, int64_t x_stride, int num_rows, float* residual, ForwardContext& context) const;

 private:
  WeightMatrix weight_;
  std::vector<float> bias_;
};

// A tensor, without ".weight" or ".bias", and its outputs.
struct Projection {
  std::string name;
  int width = 0;
  bool has_bias = false;  // "NAME.bias" must be there; otherwise it may
};

// Projections of the same input as one matrix, whose name, columns and format `matrix` has. Errors: as WeightReader.
absl::StatusOr<Linear> LoadLinear(std::span<const Projection> projections, MatrixSpec matrix, WeightReader& reader);

// A single one, under its own name.
absl::StatusOr<Linear> LoadLinear(const Projection& projection, int num_inputs, WeightReader& reader);

}  // namespace expertd
