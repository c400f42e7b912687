#include "engine/checkpoint/weight_source.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/megatron_checkpoint.h"

namespace expertd {

std::string ShowDType(DType dtype) { return absl::AsciiStrToUpper(ToAbslView(DTypeName(dtype))); }

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
  if (!IsFloat(tensor.dtype)) {
    return absl::UnimplementedError(StrCat("tensor ", ShowName(name), " has dtype ", ShowDType(tensor.dtype),
                                           "; supported are F32, F16 and BF16"));
  }
  if (!std::ranges::equal(tensor.shape, shape)) {
    return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " has shape ", ShowShape(tensor.shape),
                                             "; config.json calls for ", ShowShape(shape)));
  }
  return tensor;
}

absl::StatusOr<std::vector<float>> ReadVector(const WeightSource& source, std::string_view name, int64_t size) {
  const absl::StatusOr<WeightTensor> stored = source.Get(name);
  const bool is_row = stored.ok() && stored->shape.size() == 2 && stored->shape.front() == 1;
  const std::vector<int64_t> shape = is_row ? std::vector<int64_t>{1, size} : std::vector<int64_t>{size};
  ASSIGN_OR_RETURN(const WeightTensor tensor, GetShaped(source, name, shape));
  std::vector<float> values(static_cast<size_t>(size));
  ToFloats(tensor.dtype, tensor.data, size, values.data());
  return values;
}

namespace {

absl::Status RefuseMindSporeFiles(const std::string& dir) {
  std::error_code error;
  for (const std::filesystem::directory_entry& entry : std::filesystem::directory_iterator(dir, error)) {
    const std::filesystem::path file = entry.path().filename();
    if (file.extension() != ".ckpt") continue;
    return absl::UnimplementedError(StrCat(dir, ": ", ShowName(file.string()), " is a checkpoint of MindSpore, which "
                                           "is read as safetensors only; save it with format=\"safetensors\""));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<WeightSource>> OpenCheckpoint(const std::string& dir) {
  absl::StatusOr<std::unique_ptr<WeightSource>> source = OpenSafetensors(dir);
  if (source.ok() || !absl::IsNotFound(source.status())) return source;
  if (HasTorchFiles(dir)) return OpenTorchFiles(dir);
  if (IsMegatronFolder(dir)) return OpenMegatron(dir);
  RETURN_IF_ERROR(RefuseMindSporeFiles(dir));
  return source;
}

}  // namespace expertd
