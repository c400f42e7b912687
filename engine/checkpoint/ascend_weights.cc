// Checkpoints of Ascend's ModelSlim: X.weight i8 with scales beside it, and a description that gives each tensor its
// type. Products here quantize activations by row, whatever the type says of them, so that
//   W8A8          weight_scale = deq_scale / input_scale. The codes of activations have an offset there, and quant_bias
//                 undoes it and holds the bias: bias = (quant_bias + input_offset * sum of the row's codes) *
//                 deq_scale; a bias of floats beside it is the same one again
//   W8A8_DYNAMIC  the codes and weight_scale
//   W8A8_MIX      both of them, of which the second is taken
//   W8A16, W4A16  (code - weight_offset) * weight_scale, one per row or per group
//   W4A8_DYNAMIC  weight_scale, or weight_scale_second per group * weight_scale; scale_bias serves another arithmetic
// 4-bit codes are packed along the outputs, or along the inputs, or lie one in a byte: the shape tells which. Where
// outliers were suppressed by shifts ("m4"), norms have biases, which those of the linear maps behind them undo: layers
// add both (WeightReader::OptionalBias).
#include <array>
#include <cstring>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/checkpoint/quantized_tensors.h"
#include "engine/checkpoint/stored_weights.h"

namespace expertd {
namespace {

constexpr std::string_view kTypes = "FLOAT, W8A8, W8A8_DYNAMIC, W8A8_MIX, W8A16, W4A16 and W4A8_DYNAMIC";

class AscendWeights : public StoredWeights {
 public:
  AscendWeights(const WeightSource& source, Json description, std::string file, int64_t group_size)
      : StoredWeights(source),
        description_(std::move(description)),
        file_(std::move(file)),
        group_size_(group_size) {}

  bool Has(std::string_view name) const override {
    return source().Has(NameInFile(name)) || HoldsBiasInCodes(BiasModuleOf(name));
  }

  absl::StatusOr<std::unique_ptr<StoredWeight>> Open(std::string_view name,
                                                     std::span<const int64_t> shape) const override {
    ASSIGN_OR_RETURN(const std::string_view type, TypeOf(name));
    const std::optional<std::string> module = ModuleOf(name);
    if (type == "FLOAT" || !module) return StoredWeights::Open(NameInFile(name), shape);
    ASSIGN_OR_RETURN(const WeightTensor codes, source().Get(name));
    if (codes.dtype != DType::kI8 || shape.size() != 2) {
      return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " has dtype ", ShowDType(codes.dtype),
                                               " and shape ", ShowShape(codes.shape), ", but ", file_, " says ", type));
    }
    return OpenCodes(*module, type, codes, shape[0], shape[1]);
  }

  absl::StatusOr<std::vector<float>> Vector(std::string_view name, int64_t size) const override {
    const std::optional<std::string> module = BiasModuleOf(name);
    if (HoldsBiasInCodes(module)) return BiasInCodes(*module, size);
    return StoredWeights::Vector(NameInFile(name), size);
  }

  // By the headers alone, which do not tell codes [n, k / 2] of W4A16 from [n, k]: only files that do not say their
  // version have the latter.
  bool HasNibblesInBytes(std::string_view name, const WeightTensor& tensor) const override {
    const std::optional<std::string> module = ModuleOf(name);
    const std::string_view type = SaidOf(name);
    const bool may_be = type == "W4A8_DYNAMIC" || (type == "W4A16" && JsonFind(description_, "version") == nullptr);
    if (!module || !may_be || tensor.dtype != DType::kI8 || tensor.shape.empty()) return false;
    const absl::StatusOr<WeightTensor> scales = source().Get(*module + ".weight_scale");
    return scales.ok() && !scales->shape.empty() && scales->shape[0] == tensor.shape[0];
  }

 private:
  // Older files put norms that have got a bias one level lower: "X.module.weight" for "X.weight".
  std::string NameInFile(std::string_view name) const {
    const size_t dot = name.rfind('.');
    if (source().Has(name) || dot == std::string_view::npos) return std::string(name);
    const std::string lower = StrCat(name.substr(0, dot), ".module", name.substr(dot));
    return source().Has(lower) ? lower : std::string(name);
  }

  // "X" of "X.bias".
  static std::optional<std::string> BiasModuleOf(std::string_view name) {
    constexpr std::string_view kEnding = ".bias";
    if (!name.ends_with(kEnding)) return std::nullopt;
    return std::string(name.substr(0, name.size() - kEnding.size()));
  }

  // What the description says of a tensor; "" when it says nothing, or no text.
  std::string_view SaidOf(std::string_view name) const {
    const Json* const type = JsonFind(description_, name);
    return type != nullptr && type->is_string() ? std::string_view(type->get_ref<const std::string&>()) : "";
  }

  // The type of a weight, one of kTypes. Tensors of floats need no entry.
  absl::StatusOr<std::string_view> TypeOf(std::string_view name) const {
    const std::string_view type = SaidOf(name);
    for (const std::string_view known : {"W8A8", "W8A8_DYNAMIC", "W8A8_MIX", "W8A16", "W4A16", "W4A8_DYNAMIC"}) {
      if (type == known) return known;
    }
    if (!type.empty() && type != "FLOAT") {
      return absl::UnimplementedError(StrCat(file_, " says ", ShowName(type), " of tensor ", ShowName(name),
                                             "; supported are ", kTypes));
    }
    ASSIGN_OR_RETURN(const WeightTensor tensor, source().Get(NameInFile(name)));
    if (IsFloat(tensor.dtype)) return "FLOAT";
    return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " has dtype ", ShowDType(tensor.dtype),
                                             ", but ", file_, " says ", type.empty() ? "nothing of it" : "FLOAT"));
  }

  // Whether the bias of a module is to be had from its quant_bias only.
  bool HoldsBiasInCodes(const std::optional<std::string>& module) const {
    if (!module || !source().Has(*module + ".quant_bias")) return false;
    const std::string_view type = SaidOf(*module + ".weight");
    return type == "W8A8" || (type == "W8A8_MIX" && !source().Has(*module + ".bias"));
  }

  absl::StatusOr<std::unique_ptr<StoredWeight>> OpenCodes(const std::string& module, std::string_view type,
                                                          const WeightTensor& codes, int64_t rows,
                                                          int64_t cols) const {
    IntegerCodes integers = {.bits = type.starts_with("W4") ? 4 : 8, .codes = codes, .name = module + ".weight"};
    std::vector<WeightTensor> tensors = {codes};
    ASSIGN_OR_RETURN(integers.layout, LayoutOf(integers, rows, cols));
    if (type == "W8A8") {
      RETURN_IF_ERROR(ReadStaticScales(module, rows, cols, integers, tensors));
      return Made("ascend_w8a8", rows, cols, integers, tensors);
    }
    if (type == "W8A16" || type == "W4A16") {
      RETURN_IF_ERROR(ReadScales(module + ".weight_scale", rows, cols, integers, tensors));
      RETURN_IF_ERROR(ReadOffsets(module, rows, integers, tensors));
      return Made(type == "W8A16" ? "ascend_w8a16" : "ascend_w4a16", rows, cols, integers, tensors);
    }
    RETURN_IF_ERROR(CheckNoOffsets(module + ".weight_offset"));
    const std::string second = module + ".weight_scale_second";
    const bool has_two_levels = type == "W4A8_DYNAMIC" && source().Has(second);
    RETURN_IF_ERROR(ReadScales(has_two_levels ? second : module + ".weight_scale", rows, cols, integers, tensors));
    if (has_two_levels) {
      RETURN_IF_ERROR(CheckNoOffsets(module + ".weight_offset_second"));
      ASSIGN_OR_RETURN(Grid grid, ReadGrid(source(), module + ".weight_scale"));
      RETURN_IF_ERROR(CheckGrid(grid, rows, 1));
      integers.row_scales = std::move(grid.values);
      tensors.push_back(grid.tensor);
    }
    const std::string_view scheme = type == "W8A8_MIX"      ? "ascend_w8a8_mix"
                                    : type == "W8A8_DYNAMIC" ? "ascend_w8a8_dynamic"
                                                             : "ascend_w4a8_dynamic";
    return Made(scheme, rows, cols, integers, tensors);
  }

  static std::unique_ptr<StoredWeight> Made(std::string_view scheme, int64_t rows, int64_t cols,
                                            IntegerCodes& integers, std::vector<WeightTensor>& tensors) {
    return MakeIntegerWeight(scheme, rows, cols, std::move(integers), std::move(tensors));
  }

  absl::StatusOr<CodeLayout> LayoutOf(const IntegerCodes& integers, int64_t rows, int64_t cols) const {
    const std::vector<int64_t>& shape = integers.codes.shape;
    if (shape == std::vector{rows, cols}) return CodeLayout::kSignedBytes;
    if (integers.bits == 4 && rows % 2 == 0 && shape == std::vector{rows / 2, cols}) return CodeLayout::kSignedRowPairs;
    if (integers.bits == 4 && cols % 2 == 0 && shape == std::vector{rows, cols / 2}) {
      return CodeLayout::kSignedColumnPairs;
    }
    return absl::InvalidArgumentError(StrCat("tensor ", ShowName(integers.name), " has shape ", ShowShape(shape),
                                             "; config.json calls for ", ShowShape(std::array{rows, cols})));
  }

  // One per row or per group.
  absl::Status ReadScales(const std::string& name, int64_t rows, int64_t cols, IntegerCodes& integers,
                          std::vector<WeightTensor>& tensors) const {
    ASSIGN_OR_RETURN(Grid grid, ReadGrid(source(), name));
    RETURN_IF_ERROR(CheckGrid(grid, rows, grid.cols));
    return SetGroupScales(std::move(grid), cols, group_size_, integers, tensors);
  }

  absl::Status ReadOffsets(const std::string& module, int64_t rows, IntegerCodes& integers,
                           std::vector<WeightTensor>& tensors) const {
    const std::string name = module + ".weight_offset";
    if (!source().Has(name)) return absl::OkStatus();
    ASSIGN_OR_RETURN(Grid grid, ReadGrid(source(), name));
    RETURN_IF_ERROR(CheckGrid(grid, rows, integers.num_groups));
    for (float& value : grid.values) value += static_cast<float>(1 << (integers.bits - 1));
    integers.zero_points = std::move(grid.values);
    tensors.push_back(grid.tensor);
    return absl::OkStatus();
  }

  absl::Status CheckNoOffsets(const std::string& name) const {
    if (!source().Has(name)) return absl::OkStatus();
    ASSIGN_OR_RETURN(const Grid grid, ReadGrid(source(), name));
    return CheckZeros(grid);
  }

  // deq_scale: floats, or 64-bit integers that have a float's bits in their lower half.
  absl::StatusOr<Grid> ReadDequantScales(const std::string& module, int64_t rows) const {
    const std::string name = module + ".deq_scale";
    ASSIGN_OR_RETURN(const WeightTensor tensor, GetTyped(source(), name, {DType::kF32, DType::kBF16, DType::kI64},
                                                         std::array{rows}));
    Grid grid = {.name = name, .tensor = tensor, .rows = rows};
    ASSIGN_OR_RETURN(grid.values, ScaleValues(tensor, name));
    return grid;
  }

  absl::StatusOr<float> ReadNumber(const std::string& name) const {
    ASSIGN_OR_RETURN(const Grid grid, ReadGrid(source(), name));
    RETURN_IF_ERROR(CheckGrid(grid, 1, 1));
    return grid.values[0];
  }

  absl::Status ReadStaticScales(const std::string& module, int64_t rows, int64_t cols, IntegerCodes& integers,
                                std::vector<WeightTensor>& tensors) const {
    const std::string name = module + ".input_scale";
    ASSIGN_OR_RETURN(Grid grid, ReadDequantScales(module, rows));
    ASSIGN_OR_RETURN(const float input_scale, ReadNumber(name));
    if (!(input_scale > 0.0f)) {
      return absl::InvalidArgumentError(
          StrCat("tensor ", ShowName(name), " has the value ", input_scale, "; must be positive"));
    }
    for (float& value : grid.values) value /= input_scale;
    integers.group_size = cols;
    integers.group_scales = std::move(grid.values);
    tensors.push_back(grid.tensor);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<float>> BiasInCodes(const std::string& module, int64_t size) const {
    const std::string name = module + ".weight";
    ASSIGN_OR_RETURN(const WeightTensor codes, source().Get(name));
    if (codes.dtype != DType::kI8 || codes.shape.size() != 2 || codes.shape[0] != size) {
      return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " has dtype ", ShowDType(codes.dtype),
                                               " and shape ", ShowShape(codes.shape), "; must be I8 of ", size,
                                               " rows"));
    }
    ASSIGN_OR_RETURN(const WeightTensor quant_bias,
                     GetTyped(source(), module + ".quant_bias", {DType::kI32}, std::array{size}));
    ASSIGN_OR_RETURN(const Grid scales, ReadDequantScales(module, size));
    ASSIGN_OR_RETURN(const float offset, ReadNumber(module + ".input_offset"));
    std::vector<float> bias(static_cast<size_t>(size));
    for (int64_t row = 0; row < size; ++row) {
      int32_t stored;
      std::memcpy(&stored, quant_bias.data + row * int64_t{sizeof(stored)}, sizeof(stored));
      int64_t sum = 0;
      const std::byte* const begin = codes.data + row * codes.shape[1];
      for (int64_t k = 0; k < codes.shape[1]; ++k) sum += std::to_integer<int8_t>(begin[k]);
      bias[row] = static_cast<float>(BiasSteps(stored, offset * static_cast<double>(sum)) * scales.values[row]);
    }
    return bias;
  }

  const Json description_;
  const std::string file_;  // of the description
  const int64_t group_size_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StoredWeights>> MakeAscendWeights(const std::string& description_path,
                                                                 const WeightSource& source) {
  constexpr int64_t kMaxGroup = 1 << 20;
  ASSIGN_OR_RETURN(Json description, ReadJsonFile(description_path));
  std::string file = description_path.substr(description_path.rfind('/') + 1);
  if (!description.is_object()) return absl::InvalidArgumentError(StrCat(file, " is not a JSON object"));
  ASSIGN_OR_RETURN(const int64_t group_size, JsonIntOr(description, "group_size", 0, -1, kMaxGroup));
  return std::make_unique<AscendWeights>(source, std::move(description), std::move(file), group_size);
}

}  // namespace expertd
