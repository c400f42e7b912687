// Router: from the gate's logits, which experts a token goes to and with which weights. One implementation per routing
// rule (layer_specs.h says which there are).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/kernels/kernels.h"
#include "engine/layers/layer_specs.h"

namespace expertd {

// Immutable; concurrent calls on disjoint outputs are safe.
class Router {
 public:
  virtual ~Router() = default;

  virtual int experts_per_token() const = 0;

  // Of what it learned beside the gate.
  virtual int64_t size_bytes() const = 0;

  // Multiply-adds per row, to cut the work by.
  virtual int64_t row_work() const = 0;

  // For rows of logits [num_rows, num_experts], which are overwritten: experts and weights [num_rows,
  // experts_per_token], in the order in which contributions are to be added. Indices are valid whatever the logits are.
  virtual void Route(float* logits, int num_rows, int32_t* experts, float* weights, const Kernels& kernels) const = 0;
};

// A router by spec.router, whose learned values, one for each expert, are `per_expert`: the biases of a
// SigmoidTopKRouter or the scales of a GroupedRouter that has them, otherwise empty. Chosen experts come in descending
// order of what they are chosen by; of a GroupedRouter in the order of their groups.
std::unique_ptr<Router> MakeRouter(const MoeSpec& spec, std::vector<float> per_expert);

}  // namespace expertd
