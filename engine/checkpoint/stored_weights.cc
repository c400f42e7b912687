#include "engine/checkpoint/stored_weights.h"

#include <filesystem>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/golden_stick.h"
#include "engine/checkpoint/quantized_tensors.h"
#include "engine/checkpoint/shard_index.h"

namespace expertd {
namespace {

namespace fs = std::filesystem;

// The description that Ascend's tools write; empty when there is none. Of several, quant_model_description.json counts.
absl::StatusOr<std::string> FindAscendDescription(const std::string& dir) {
  constexpr std::string_view kPrefix = "quant_model_description";
  std::error_code error;
  const std::string usual = StrCat(dir, "/", kPrefix, ".json");
  if (fs::exists(usual, error)) return usual;
  std::string found;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(".json")) continue;
    if (!found.empty()) return absl::InvalidArgumentError(StrCat("the folder has several files ", kPrefix, "*.json"));
    found = entry.path().string();
  }
  return found;
}

// The object of config.json that says how the weights are quantized; null when there is none.
absl::StatusOr<Json> ReadQuantizationConfig(const std::string& dir) {
  const std::string path = dir + "/config.json";
  std::error_code error;
  if (!fs::exists(path, error)) return Json();
  ASSIGN_OR_RETURN(const Json config, ReadJsonFile(path));
  for (const std::string_view key : {"quantization_config", "compression_config"}) {
    const Json* const found = JsonFind(config, key);
    if (found == nullptr) continue;
    if (!found->is_object()) return absl::InvalidArgumentError(StrCat(key, " of config.json must be an object"));
    return *found;
  }
  return Json();
}

// Golden-stick is known by the names of its tensors: config.json is the original model's, whatever that says of
// quantization. Files that cannot be opened are told of by those who read them.
bool IsGoldenStickFolder(const std::string& dir) {
  const absl::StatusOr<std::unique_ptr<WeightSource>> source = OpenSafetensors(dir);
  return source.ok() && FindGoldenStickTensor(**source).has_value();
}

// Codes that nothing in the folder describes: of an Ascend folder whose description was left behind, most likely.
absl::Status RefuseUndescribedCodes(const WeightSource& source) {
  for (const std::string& name : source.Names()) {
    const std::optional<std::string> module = ModuleOf(name);
    if (!module || !source.Has(*module + ".weight_scale")) continue;
    const absl::StatusOr<WeightTensor> codes = source.Get(name);
    if (!codes.ok() || codes->dtype != DType::kI8) continue;
    return absl::InvalidArgumentError(
        StrCat("tensor ", ShowName(name), " has dtype I8 and a weight_scale, but nothing says what its codes mean: "
               "the folder has no quant_model_description*.json, which Ascend's ModelSlim writes beside them, and "
               "config.json no quantization_config"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoredWeight>> StoredWeights::Open(std::string_view name,
                                                                  std::span<const int64_t> shape) const {
  ASSIGN_OR_RETURN(WeightTensor tensor, GetShaped(source_, name, shape));
  int64_t rows = 1;
  for (const int64_t extent : shape.first(shape.size() - 1)) rows *= extent;
  return MakeFloatWeight(std::move(tensor), rows, shape.back());
}

absl::StatusOr<std::vector<float>> StoredWeights::Vector(std::string_view name, int64_t size) const {
  return ReadVector(source_, name, size);
}

absl::StatusOr<std::string> FindQuantizedForm(const std::string& dir) {
  if (IsGoldenStickFolder(dir)) return "golden-stick";
  ASSIGN_OR_RETURN(const std::string description, FindAscendDescription(dir));
  if (!description.empty()) return "ascend";
  ASSIGN_OR_RETURN(const Json config, ReadQuantizationConfig(dir));
  if (config.is_null()) return "";
  ASSIGN_OR_RETURN(const std::string method, JsonStringOr(config, "quant_method", ""));
  constexpr std::string_view kKnown[] = {"fp8", "compressed-tensors", "gptq", "awq", "ascend"};
  if (std::ranges::find(kKnown, method) != std::end(kKnown)) return method;
  return absl::UnimplementedError(StrCat("quant_method of quantization_config is \"", ShowName(method),
                                         "\"; supported are fp8, compressed-tensors, gptq, awq and ascend"));
}

namespace {

absl::StatusOr<std::unique_ptr<StoredWeights>> OpenForm(const std::string& dir, const WeightSource& source) {
  if (HasMindFormersNames(source)) {
    ASSIGN_OR_RETURN(const Json config, ReadJsonFile(dir + "/config.json"));
    return MakeGoldenStickWeights(config, source);
  }
  ASSIGN_OR_RETURN(const std::string method, FindQuantizedForm(dir));
  if (method.empty()) {
    RETURN_IF_ERROR(RefuseUndescribedCodes(source));
    return std::make_unique<StoredWeights>(source);
  }
  ASSIGN_OR_RETURN(const std::string description, FindAscendDescription(dir));
  if (!description.empty()) return MakeAscendWeights(description, source);
  ASSIGN_OR_RETURN(const Json config, ReadQuantizationConfig(dir));
  if (method == "fp8") return MakeFp8Weights(config, source);
  if (method == "compressed-tensors") return MakeCompressedTensors(config, source);
  if (method == "gptq") return MakeGptqWeights(config, source);
  if (method == "awq") return MakeAwqWeights(config, source);
  return absl::InvalidArgumentError("quant_method is \"ascend\", but the folder has no quant_model_description.json");
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoredWeights>> OpenStoredWeights(const std::string& dir, const WeightSource& source) {
  absl::StatusOr<std::unique_ptr<StoredWeights>> weights = OpenForm(dir, source);
  if (weights.ok()) return weights;
  return WithPath(dir, weights.status());
}

absl::StatusOr<std::optional<int64_t>> EstimateQuantizedBytes(const std::string& dir, WeightFormat float_format) {
  ASSIGN_OR_RETURN(const std::string form, FindQuantizedForm(dir));
  if (form.empty()) return std::nullopt;
  const absl::StatusOr<std::unique_ptr<WeightSource>> opened = OpenCheckpoint(dir);
  if (absl::IsNotFound(opened.status())) return std::nullopt;  // config.json alone
  RETURN_IF_ERROR(opened.status());
  const std::unique_ptr<WeightSource>& source = *opened;
  ASSIGN_OR_RETURN(const std::unique_ptr<StoredWeights> weights, OpenStoredWeights(dir, *source));
  const int64_t float_bytes = float_format == WeightFormat::kF32 ? 4 : 2;
  int64_t total = 0;
  for (const std::string& name : source->Names()) {
    const absl::StatusOr<WeightTensor> tensor = source->Get(name);
    if (!tensor.ok()) continue;
    const bool is_float = IsFloat(tensor->dtype) || tensor->dtype == DType::kF8E4M3;
    if (is_float) {
      total += tensor->size_bytes / DTypeBytes(tensor->dtype) * float_bytes;
    } else {
      const bool is_scale = tensor->dtype == DType::kU64;  // of 32 bits
      const bool takes_half = is_scale || weights->HasNibblesInBytes(name, *tensor);
      total += takes_half ? tensor->size_bytes / 2 : tensor->size_bytes;
    }
  }
  return total;
}

}  // namespace expertd
