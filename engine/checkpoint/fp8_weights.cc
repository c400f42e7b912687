// Checkpoints of 8-bit floats as DeepSeek publishes its models and Qwen some of its own: X.weight f8_e4m3 [n, k] with
// X.weight_scale_inv, which is multiplied, for every block of 128 x 128: f32, bf16 or exponents alone ("ue8m0").
// Products take the weights rounded to bf16, a superset of f8_e4m3 but for the scale; activations stay as they are,
// which is more than the published arithmetic keeps of them (8 bits for 128 inputs).
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/quantized_tensors.h"
#include "engine/checkpoint/stored_weights.h"

namespace expertd {
namespace {

class Fp8Weights : public StoredWeights {
 public:
  Fp8Weights(const WeightSource& source, BlockSize block) : StoredWeights(source), block_(block) {}

  absl::StatusOr<std::unique_ptr<StoredWeight>> Open(std::string_view name,
                                                     std::span<const int64_t> shape) const override {
    ASSIGN_OR_RETURN(const WeightTensor tensor, source().Get(name));
    const std::optional<std::string> module = ModuleOf(name);
    if (tensor.dtype != DType::kF8E4M3 || !module) return StoredWeights::Open(name, shape);
    return OpenFp8(source(), *module, shape, block_);
  }

 private:
  const BlockSize block_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StoredWeights>> MakeFp8Weights(const Json& config, const WeightSource& source) {
  RETURN_IF_ERROR(ReadChoice(config, "fmt", {"e4m3"}).status());
  ASSIGN_OR_RETURN(const BlockSize block, ReadBlockSize(config, "weight_block_size"));
  return std::make_unique<Fp8Weights>(source, block);
}

}  // namespace expertd
