// StoredWeights: how a checkpoint stores the weights that a model asks for by the names of an unquantized one. This
// base reads floats; a published quantized form is a class in a file of its own, found by OpenStoredWeights from what
// the folder says of itself. Each weight is decided by the tensors that are there for it, not by the folder as a whole,
// because published folders mix forms: a list of modules left unquantized ("ignore", "modules_to_not_convert") says
// nothing that the tensors do not. Where the two disagree nobody is warned: the tensors are whole either way, and the
// log counts what became of them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/json.h"
#include "engine/checkpoint/stored_weight.h"
#include "engine/checkpoint/weight_source.h"

namespace expertd {

// Immutable; concurrent calls are safe. The source must outlive it.
class StoredWeights {
 public:
  explicit StoredWeights(const WeightSource& source) : source_(source) {}
  virtual ~StoredWeights() = default;

  const WeightSource& source() const { return source_; }

  // Whether there is a weight or vector of that name, whatever tensors it is made of.
  virtual bool Has(std::string_view name) const { return source_.Has(name); }

  // The weight `name` of `shape`, the last dimension being the inputs and the others the rows. Errors: NotFound,
  // InvalidArgument (a tensor of another shape or type than the form calls for, scales that are not finite),
  // Unimplemented; all name the tensor.
  virtual absl::StatusOr<std::unique_ptr<StoredWeight>> Open(std::string_view name,
                                                             std::span<const int64_t> shape) const;

  // The vector `name` of `size` floats: norms, biases. Errors: as Open.
  virtual absl::StatusOr<std::vector<float>> Vector(std::string_view name, int64_t size) const;

  // Whether each byte of `tensor`, called `name`, holds one code of 4 bits, two of which share a byte in memory.
  virtual bool HasNibblesInBytes(std::string_view /*name*/, const WeightTensor& /*tensor*/) const { return false; }

 private:
  const WeightSource& source_;
};

// "golden-stick" for a folder of safetensors with its names (golden_stick.h); "ascend" for one with a
// quant_model_description*.json; otherwise the quant_method of "quantization_config" of its config.json; empty where
// there is none. Errors: InvalidArgument (malformed), Unimplemented (another method).
absl::StatusOr<std::string> FindQuantizedForm(const std::string& dir);

// The form of the checkpoint `source` in folder `dir`: FindQuantizedForm, or floats where that is empty, under the
// names of Hugging Face or of MindFormers. Errors: Unimplemented (a form that is not read), InvalidArgument (a
// malformed description, codes without one); all name the folder.
absl::StatusOr<std::unique_ptr<StoredWeights>> OpenStoredWeights(const std::string& dir, const WeightSource& source);

// About the bytes in memory of the quantized checkpoint in `dir`, from its headers alone: codes as they are, floats of
// any width in `float_format`. Nothing when the folder is none or has no weights. Errors: as OpenCheckpoint and
// OpenStoredWeights.
absl::StatusOr<std::optional<int64_t>> EstimateQuantizedBytes(const std::string& dir, WeightFormat float_format);

// The forms. `config` is the quantization_config.
absl::StatusOr<std::unique_ptr<StoredWeights>> MakeFp8Weights(const Json& config, const WeightSource& source);
absl::StatusOr<std::unique_ptr<StoredWeights>> MakeCompressedTensors(const Json& config, const WeightSource& source);
absl::StatusOr<std::unique_ptr<StoredWeights>> MakeGptqWeights(const Json& config, const WeightSource& source);
absl::StatusOr<std::unique_ptr<StoredWeights>> MakeAwqWeights(const Json& config, const WeightSource& source);
absl::StatusOr<std::unique_ptr<StoredWeights>> MakeAscendWeights(const std::string& description_path,
                                                                 const WeightSource& source);

}  // namespace expertd
