// Checkpoints of MindSpore: the folders that MindFormers and its quantizer golden-stick write for DeepSeek, under names
// and in layouts of their own. Read as safetensors; OpenStoredWeights finds them by their names.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/checkpoint/stored_weights.h"
#include "engine/checkpoint/weight_source.h"

namespace expertd {

// The first tensor with one of golden-stick's names, "X._layer.Y" or "X.quant_op.Y"; nothing where there is none.
std::optional<std::string> FindGoldenStickTensor(const WeightSource& source);

// Whether `source` has the names of MindFormers, quantized or not.
bool HasMindFormersNames(const WeightSource& source);

// The checkpoint under the names and with the rows of a Hugging Face one. `config`: config.json, which says how rows
// that are rotated lie. Errors: Unimplemented (another family, tensors that are not read), InvalidArgument.
absl::StatusOr<std::unique_ptr<StoredWeights>> MakeGoldenStickWeights(const Json& config, const WeightSource& source);

}  // namespace expertd
