// The sparse feed-forward: a router sends each token to a few experts, whose outputs are added in router order; a
// shared expert, where there is one, sees every token.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/weight_reader.h"
#include "engine/layers/feed_forward.h"
#include "engine/layers/gate_up.h"
#include "engine/layers/layer_specs.h"
#include "engine/layers/linear.h"
#include "engine/layers/mlp.h"
#include "engine/layers/router.h"

namespace expertd {

// One expert: down(silu(gate(x)) * up(x)).
struct Expert {
  GateUp gate_up;
  Linear down;  // [hidden, width]
};

// residual += sum over the token's experts of weight * expert(x), in fp32 and in router order; then += shared(x), which
// may be null. Tokens are grouped by expert once per call; the pool's items are (expert, rows, columns).
std::unique_ptr<FeedForward> MakeMoe(Linear gate, std::unique_ptr<Router> router, std::vector<Expert> experts,
                                     std::unique_ptr<FeedForward> shared = nullptr);

// Names of the tensors of a sparse layer. Checkpoints hold experts one by one
// ("<experts>.<e>.gate_proj.weight", "...up_proj.weight", "...down_proj.weight") or stacked
// ("<experts>.gate_up_proj" [num_experts, 2 * width, hidden], gate above up, and "<experts>.down_proj"
// [num_experts, hidden, width]); both are read.
struct MoeNames {
  std::string router;        // the tensor
  std::string router_bias;   // [num_experts], of a SigmoidTopKRouter
  std::string router_scale;  // [1, num_experts], of a GroupedRouter; ones where the checkpoint has none
  std::string experts;       // the prefix
  MlpNames shared;           // used when there is a shared expert
};

// Errors: as WeightReader.
absl::StatusOr<std::unique_ptr<FeedForward>> LoadMoe(const MoeSpec& spec, int hidden_size, const MoeNames& names,
                                                     WeightReader& reader);

}  // namespace expertd
