// Router: from the gate's logits, which experts a token goes to and with which weights. One implementation per routing
// rule.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/kernels/kernels.h"
#include "engine/layers/layer_specs.h"

namespace expertd {

// Immutable; concurrent calls on disjoint outputs are safe.
class Router {
 public:
  virtual ~Router() = default;

  virtual int experts_per_token() const = 0;

  // Multiply-adds per row, to cut the work by.
  virtual int64_t row_work() const = 0;

  // For rows of logits [num_rows, num_experts], which are overwritten: experts and weights [num_rows,
  // experts_per_token], in the order in which contributions are to be added. Indices are valid whatever the logits are.
  virtual void Route(float* logits, int num_rows, int32_t* experts, float* weights, const Kernels& kernels) const = 0;
};

// Softmax over all experts in fp32, the best `experts_per_token` in descending order (the lower index wins a tie),
// their probabilities as they are or divided by their sum.
std::unique_ptr<Router> MakeSoftmaxTopKRouter(const SoftmaxTopKRouter& spec, int num_experts, int experts_per_token);

}  // namespace expertd
