// What a step must at least cost: the bytes that it reads and the operations that it does, by the shape of the model.
// The ceilings of the machine divided by these bound any speed; `expertd bench` prints the shares.
#pragma once

#include <cstdint>

#include "engine/models/model_config.h"
#include "engine/tensor/kv_layout.h"
#include "engine/tensor/weight_format.h"

namespace expertd {

struct StepShape {
  int64_t num_rows = 0;
  int64_t num_logits_rows = 0;
  int64_t num_cached_tokens = 0;   // sum over sequences of the tokens whose K and V are read
  int64_t num_attended_keys = 0;   // sum over rows of the keys that the row attends to
  double experts_per_layer = 0.0;  // distinct experts of a sparse layer; unused for dense ones
};

struct StepCost {
  double weight_bytes = 0.0;          // every matrix that is used, once; of the embedding nothing
  double kv_bytes = 0.0;
  double matrix_operations = 0.0;     // multiplications and additions of products with weights
  double attention_operations = 0.0;  // of q . k and p . v
};

StepCost CostOfStep(const ModelConfig& config, WeightFormat format, KvFormat kv_format, const StepShape& shape);

}  // namespace expertd
