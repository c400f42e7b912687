#include "engine/checkpoint/weight_source.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/escaping.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/megatron_checkpoint.h"

namespace expertd {

std::string ShowShape(std::span<const int64_t> shape) {
  std::string shown = "[";
  for (size_t i = 0; i < shape.size(); ++i) StrAppend(&shown, i == 0 ? "" : ", ", shape[i]);
  return shown + "]";
}

std::string ShowName(std::string_view name) {
  constexpr size_t kMaxShown = 300;
  std::string shown = absl::Utf8SafeCEscape(ToAbslView(name.substr(0, kMaxShown)));
  if (shown.size() > kMaxShown || name.size() > kMaxShown) shown = shown.substr(0, kMaxShown - 3) + "...";
  return shown;
}

absl::StatusOr<WeightTensor> GetShaped(const WeightSource& source, std::string_view name,
                                       std::span<const int64_t> shape) {
  ASSIGN_OR_RETURN(WeightTensor tensor, source.Get(name));
  if (!std::ranges::equal(tensor.shape, shape)) {
    return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " has shape ", ShowShape(tensor.shape),
                                             "; config.json calls for ", ShowShape(shape)));
  }
  return tensor;
}

absl::StatusOr<std::vector<float>> ReadVector(const WeightSource& source, std::string_view name, int64_t size) {
  const int64_t shape[] = {size};
  ASSIGN_OR_RETURN(const WeightTensor tensor, GetShaped(source, name, shape));
  std::vector<float> values(static_cast<size_t>(size));
  if (tensor.dtype == DType::kF32) {
    if (size > 0) std::memcpy(values.data(), tensor.data, values.size() * sizeof(float));
    return values;
  }
  for (int64_t i = 0; i < size; ++i) {
    uint16_t bits;
    std::memcpy(&bits, tensor.data + i * sizeof(bits), sizeof(bits));
    values[i] = tensor.dtype == DType::kF16 ? HalfToFloat(bits) : ToFloat(BFloat16{bits});
  }
  return values;
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenCheckpoint(const std::string& dir) {
  absl::StatusOr<std::unique_ptr<WeightSource>> source = OpenSafetensors(dir);
  if (source.ok() || !absl::IsNotFound(source.status())) return source;
  if (HasTorchFiles(dir)) return OpenTorchFiles(dir);
  if (IsMegatronFolder(dir)) return OpenMegatron(dir);
  return source;
}

}  // namespace expertd
