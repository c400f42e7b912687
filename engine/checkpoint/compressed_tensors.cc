// Checkpoints of the compressed-tensors library (llm-compressor, vLLM). A module X has one of
//   X.weight i8 [n, k], X.weight_scale [n, 1] or one value; X.weight_zero_point i8 when codes are not symmetric
//   X.weight f8_e4m3 [n, k], X.weight_scale per row, per tensor or per block
//   X.weight_packed i32, 4 or 8 bits along the inputs, codes from 0 with half their range for zero; X.weight_scale
//     [n, groups]; X.weight_zero_point i32, packed along the outputs; X.weight_g_idx, the group of each input, where
//     inputs were ordered by their activations
// What is said of activations is left aside: they are quantized per row, as its dynamic schemes have it.
#include <algorithm>
#include <array>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/quantized_tensors.h"
#include "engine/checkpoint/stored_weights.h"

namespace expertd {
namespace {

// Sizes that config_groups give, 0 where they give none. Groups apply to modules by patterns of names; sizes of tensors
// say which of several it is.
struct Sizes {
  int64_t group = 0;
  BlockSize block;
};

class CompressedTensors : public StoredWeights {
 public:
  CompressedTensors(const WeightSource& source, Sizes sizes) : StoredWeights(source), sizes_(sizes) {}

  bool Has(std::string_view name) const override {
    const std::optional<std::string> module = ModuleOf(name);
    return source().Has(name) || (module && source().Has(*module + ".weight_packed"));
  }

  absl::StatusOr<std::unique_ptr<StoredWeight>> Open(std::string_view name,
                                                     std::span<const int64_t> shape) const override {
    const std::optional<std::string> module = ModuleOf(name);
    if (!module || shape.size() != 2) return StoredWeights::Open(name, shape);
    if (source().Has(*module + ".weight_packed")) return OpenPacked(*module, shape[0], shape[1]);
    ASSIGN_OR_RETURN(const WeightTensor tensor, source().Get(name));
    if (tensor.dtype == DType::kI8) return OpenInt8(*module, shape[0], shape[1]);
    if (tensor.dtype != DType::kF8E4M3) return StoredWeights::Open(name, shape);
    return OpenFp8(source(), *module, shape, sizes_.block);
  }

 private:
  absl::StatusOr<std::unique_ptr<StoredWeight>> OpenInt8(const std::string& module, int64_t rows, int64_t cols) const {
    IntegerCodes integers = {.layout = CodeLayout::kSignedBytes, .bits = 8, .name = module + ".weight"};
    ASSIGN_OR_RETURN(integers.codes, GetTyped(source(), integers.name, {DType::kI8}, std::array{rows, cols}));
    std::vector<WeightTensor> tensors = {integers.codes};
    RETURN_IF_ERROR(ReadScales(module, rows, cols, integers, tensors));
    const std::string zero_points = module + ".weight_zero_point";
    if (source().Has(zero_points)) {
      ASSIGN_OR_RETURN(Grid grid, ReadGrid(source(), zero_points));
      RETURN_IF_ERROR(SpreadOverRows(grid, rows));
      RETURN_IF_ERROR(CheckGrid(grid, rows, integers.num_groups));
      for (float& value : grid.values) value += 128.0f;
      tensors.push_back(grid.tensor);
      integers.zero_points = std::move(grid.values);
    }
    return MakeIntegerWeight("compressed_int8", rows, cols, std::move(integers), std::move(tensors));
  }

  absl::StatusOr<std::unique_ptr<StoredWeight>> OpenPacked(const std::string& module, int64_t rows,
                                                           int64_t cols) const {
    IntegerCodes integers = {.layout = CodeLayout::kWordsAlongRow, .name = module + ".weight_packed"};
    ASSIGN_OR_RETURN(integers.codes, source().Get(integers.name));
    // 8 bits when there are words for them; otherwise the shape must be that of 4.
    const bool is_8_bit = integers.codes.shape == std::vector<int64_t>{rows, (cols + 3) / 4} && cols > 4;
    integers.bits = is_8_bit ? 8 : 4;
    const int64_t per_word = 32 / integers.bits;
    const std::array words = {rows, (cols + per_word - 1) / per_word};
    ASSIGN_OR_RETURN(integers.codes, GetTyped(source(), integers.name, {DType::kI32}, words));
    std::vector<WeightTensor> tensors = {integers.codes};
    RETURN_IF_ERROR(CheckShape(module, rows, cols));
    RETURN_IF_ERROR(ReadScales(module, rows, cols, integers, tensors));
    RETURN_IF_ERROR(ReadZeroPoints(module, rows, integers, tensors));
    RETURN_IF_ERROR(ReadGroupOfInputs(source(), module + ".weight_g_idx", cols, integers));
    return MakeIntegerWeight(is_8_bit ? "compressed_packed8" : "compressed_packed4", rows, cols, std::move(integers),
                             std::move(tensors));
  }

  // X.weight_shape repeats the shape before packing.
  absl::Status CheckShape(const std::string& module, int64_t rows, int64_t cols) const {
    const std::string name = module + ".weight_shape";
    if (!source().Has(name)) return absl::OkStatus();
    ASSIGN_OR_RETURN(const WeightTensor tensor,
                     GetTyped(source(), name, {DType::kI64, DType::kI32}, std::array<int64_t, 1>{2}));
    float shape[2];
    ToFloats(tensor.dtype, tensor.data, 2, shape);
    if (shape[0] == static_cast<float>(rows) && shape[1] == static_cast<float>(cols)) return absl::OkStatus();
    return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " says [", shape[0], ", ", shape[1],
                                             "]; config.json calls for [", rows, ", ", cols, "]"));
  }

  absl::Status ReadScales(const std::string& module, int64_t rows, int64_t cols, IntegerCodes& integers,
                          std::vector<WeightTensor>& tensors) const {
    ASSIGN_OR_RETURN(Grid grid, ReadGrid(source(), module + ".weight_scale"));
    RETURN_IF_ERROR(SpreadOverRows(grid, rows));
    return SetGroupScales(std::move(grid), cols, sizes_.group, integers, tensors);
  }

  // Packed along the outputs, and moved up like the codes.
  absl::Status ReadZeroPoints(const std::string& module, int64_t rows, IntegerCodes& integers,
                              std::vector<WeightTensor>& tensors) const {
    const std::string name = module + ".weight_zero_point";
    if (!source().Has(name)) return absl::OkStatus();
    const int64_t per_word = 32 / integers.bits;
    ASSIGN_OR_RETURN(const WeightTensor tensor,
                     GetTyped(source(), name, {DType::kI32},
                              std::array{(rows + per_word - 1) / per_word, integers.num_groups}));
    integers.zero_points.resize(static_cast<size_t>(rows * integers.num_groups));
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t group = 0; group < integers.num_groups; ++group) {
        const int64_t word = row / per_word * integers.num_groups + group;
        integers.zero_points[row * integers.num_groups + group] =
            static_cast<float>(CodeOfWord(tensor, word, static_cast<int>(row % per_word), integers.bits));
      }
    }
    tensors.push_back(tensor);
    return absl::OkStatus();
  }

  const Sizes sizes_;
};

absl::Status CheckFormat(const Json& config) {
  return ReadChoice(config, "format", {"mixed-precision", "int-quantized", "pack-quantized", "float-quantized",
                                       "naive-quantized", "dense"})
      .status();
}

absl::StatusOr<Sizes> ReadSizes(const Json& config) {
  constexpr int64_t kMaxSize = 1 << 20;
  Sizes sizes;
  const Json* const groups = JsonFind(config, "config_groups");
  if (groups == nullptr || !groups->is_object()) return sizes;
  for (const auto& [name, group] : groups->items()) {
    RETURN_IF_ERROR(CheckFormat(group));
    const Json* const weights = JsonFind(group, "weights");
    if (weights == nullptr || !weights->is_object()) continue;
    ASSIGN_OR_RETURN(const int64_t size, JsonIntOr(*weights, "group_size", 0, -1, kMaxSize));
    if (size > 0) sizes.group = size;
    ASSIGN_OR_RETURN(const BlockSize block, ReadBlockSize(*weights, "block_structure"));
    if (block.rows > 0) sizes.block = block;
  }
  return sizes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoredWeights>> MakeCompressedTensors(const Json& config, const WeightSource& source) {
  RETURN_IF_ERROR(CheckFormat(config));
  // Rotations of activations at run time, and weights of which only some are stored.
  for (const std::string_view key : {"transform_config", "sparsity_config"}) {
    const Json* const part = JsonFind(config, key);
    if (part == nullptr || part->empty()) continue;
    ASSIGN_OR_RETURN(const std::string format, JsonStringOr(*part, "format", ""));
    if (format == "dense") continue;
    return absl::UnimplementedError(StrCat(key, " of quantization_config is not supported"));
  }
  ASSIGN_OR_RETURN(const Sizes sizes, ReadSizes(config));
  return std::make_unique<CompressedTensors>(source, sizes);
}

}  // namespace expertd
