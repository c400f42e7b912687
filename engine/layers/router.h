// Router: which experts a token goes to, and with which weights. One implementation per routing rule.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/kernels/kernels.h"
#include "engine/layers/layer_specs.h"
#include "engine/tensor/weight_matrix.h"

namespace expertd {

// Immutable; concurrent calls on disjoint outputs are safe.
class Router {
 public:
  virtual ~Router() = default;

  virtual int num_experts() const = 0;
  virtual int experts_per_token() const = 0;
  virtual int64_t size_bytes() const = 0;

  // Multiply-adds per row, to cut the work by.
  virtual int64_t row_work() const = 0;

  // For rows x: [num_rows, hidden], contiguous: experts and weights [num_rows, experts_per_token], in the order in
  // which contributions are to be added. scratch: num_rows * num_experts floats. Indices are valid whatever x holds.
  virtual void Route(const float* x, int num_rows, float* scratch, int32_t* experts, float* weights,
                     const Kernels& kernels) const = 0;
};

// Softmax over all experts in fp32, the best `experts_per_token` in descending order (the lower index wins a tie),
// their probabilities as they are or divided by their sum. gate: [num_experts, hidden].
std::unique_ptr<Router> MakeSoftmaxTopKRouter(const SoftmaxTopKRouter& spec, int experts_per_token, WeightMatrix gate);

}  // namespace expertd
