#include "engine/checkpoint/quantized_tensors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"

namespace expertd {
namespace {

absl::Status WrongShape(std::string_view name, std::span<const int64_t> shape, std::span<const int64_t> wanted) {
  return absl::InvalidArgumentError(
      StrCat("tensor ", ShowName(name), " has shape ", ShowShape(shape), "; must be ", ShowShape(wanted)));
}

absl::Status CheckFinite(std::string_view name, std::span<const float> values) {
  const auto bad = std::ranges::find_if_not(values, [](float value) { return std::isfinite(value); });
  if (bad == values.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("tensor ", ShowName(name), " has the value ", *bad, " at ", bad - values.begin(), "; must be finite"));
}

}  // namespace

absl::StatusOr<size_t> ReadChoice(const Json& object, std::string_view key,
                                  std::initializer_list<std::string_view> choices) {
  ASSIGN_OR_RETURN(const std::string value, JsonStringOr(object, key, *choices.begin()));
  const auto* const found = std::ranges::find(choices, std::string_view(value));
  if (found != choices.end()) return static_cast<size_t>(found - choices.begin());
  std::string supported;
  for (const std::string_view choice : choices) StrAppend(&supported, supported.empty() ? "" : ", ", choice);
  return absl::UnimplementedError(
      StrCat(key, " of quantization_config is \"", ShowName(value), "\"; supported: ", supported));
}

absl::StatusOr<BlockSize> ReadBlockSize(const Json& object, std::string_view key) {
  constexpr int64_t kMaxSize = 1 << 20;
  const Json* const sizes = JsonFind(object, key);
  if (sizes == nullptr) return BlockSize();
  const bool is_pair = sizes->is_array() && sizes->size() == 2;
  const Json named = is_pair ? Json{{"rows", (*sizes)[0]}, {"cols", (*sizes)[1]}} : Json::object();
  const auto rows = JsonInt(named, "rows", 1, kMaxSize), cols = JsonInt(named, "cols", 1, kMaxSize);
  if (rows.ok() && cols.ok()) return BlockSize{.rows = *rows, .cols = *cols};
  return absl::InvalidArgumentError(StrCat(key, " of quantization_config is ", ShowName(DumpJson(*sizes)),
                                           "; must be a list of two integers in 1..", kMaxSize));
}

std::optional<std::string> ModuleOf(std::string_view weight_name) {
  constexpr std::string_view kEnding = ".weight";
  if (!weight_name.ends_with(kEnding)) return std::nullopt;
  return std::string(weight_name.substr(0, weight_name.size() - kEnding.size()));
}

absl::StatusOr<WeightTensor> GetTyped(const WeightSource& source, std::string_view name,
                                      std::initializer_list<DType> dtypes, std::span<const int64_t> shape) {
  ASSIGN_OR_RETURN(WeightTensor tensor, source.Get(name));
  if (std::ranges::find(dtypes, tensor.dtype) == dtypes.end()) {
    std::string allowed;
    for (const DType dtype : dtypes) StrAppend(&allowed, allowed.empty() ? "" : " or ", ShowDType(dtype));
    return absl::InvalidArgumentError(
        StrCat("tensor ", ShowName(name), " has dtype ", ShowDType(tensor.dtype), "; must be ", allowed));
  }
  if (!std::ranges::equal(tensor.shape, shape)) return WrongShape(name, tensor.shape, shape);
  return tensor;
}

absl::StatusOr<Grid> ReadGrid(const WeightSource& source, const std::string& name) {
  Grid grid = {.name = name};
  ASSIGN_OR_RETURN(grid.tensor, source.Get(name));
  const std::vector<int64_t>& shape = grid.tensor.shape;
  const DType stored = grid.tensor.dtype;
  const DType dtype = stored == DType::kU8 ? DType::kF8E8M0 : stored;
  if (!IsFloat(dtype) && dtype != DType::kF8E8M0 && dtype != DType::kI8) {
    return absl::InvalidArgumentError(
        StrCat("tensor ", ShowName(name), " has dtype ", ShowDType(stored), ", which scales cannot have"));
  }
  if (shape.size() > 2 || std::ranges::find(shape, 0) != shape.end()) {
    return absl::InvalidArgumentError(
        StrCat("tensor ", ShowName(name), " has shape ", ShowShape(shape), ", which scales cannot have"));
  }
  if (!shape.empty()) grid.rows = shape[0];
  if (shape.size() == 2) grid.cols = shape[1];
  grid.values.resize(static_cast<size_t>(grid.rows * grid.cols));
  ToFloats(dtype, grid.tensor.data, grid.rows * grid.cols, grid.values.data());
  RETURN_IF_ERROR(CheckFinite(name, grid.values));
  return grid;
}

absl::StatusOr<std::vector<float>> ScaleValues(const WeightTensor& tensor, std::string_view name) {
  const bool is_wide = tensor.dtype == DType::kI64 || tensor.dtype == DType::kU64;
  if (!is_wide && !IsFloat(tensor.dtype)) {
    return absl::InvalidArgumentError(
        StrCat("tensor ", ShowName(name), " has dtype ", ShowDType(tensor.dtype), ", which scales cannot have"));
  }
  const int64_t count = tensor.size_bytes / DTypeBytes(tensor.dtype);
  std::vector<float> values(static_cast<size_t>(count));
  if (is_wide) {
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(&values[i], tensor.data + i * int64_t{sizeof(uint64_t)}, sizeof(float));
    }
  } else {
    ToFloats(tensor.dtype, tensor.data, count, values.data());
  }
  RETURN_IF_ERROR(CheckFinite(name, values));
  return values;
}

absl::Status CheckGrid(const Grid& grid, int64_t rows, int64_t cols) {
  if (grid.rows == rows && grid.cols == cols) return absl::OkStatus();
  const int64_t wanted[] = {rows, cols};
  return WrongShape(grid.name, grid.tensor.shape, wanted);
}

absl::Status SpreadOverRows(Grid& grid, int64_t rows) {
  if (grid.rows == rows) return absl::OkStatus();
  if (grid.rows != 1 || grid.cols != 1) {
    const int64_t wanted[] = {rows, grid.cols};
    return WrongShape(grid.name, grid.tensor.shape, wanted);
  }
  grid.values.assign(static_cast<size_t>(rows), grid.values[0]);
  grid.rows = rows;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> GroupSize(int64_t cols, int64_t num_groups, int64_t said, std::string_view name) {
  if (said > 0 && (cols + said - 1) / said == num_groups) return said;
  if (num_groups > 0 && cols % num_groups == 0) return cols / num_groups;
  return absl::InvalidArgumentError(
      StrCat("tensor ", ShowName(name), " has ", num_groups, " groups, into which ", cols, " inputs do not go"));
}

absl::Status SetGroupScales(Grid grid, int64_t cols, int64_t said, IntegerCodes& integers,
                            std::vector<WeightTensor>& tensors) {
  integers.num_groups = grid.cols;
  ASSIGN_OR_RETURN(integers.group_size, GroupSize(cols, grid.cols, said, grid.name));
  integers.group_scales = std::move(grid.values);
  tensors.push_back(grid.tensor);
  return absl::OkStatus();
}

uint32_t CodeOfWord(const WeightTensor& tensor, int64_t index, int place, int bits) {
  uint32_t word;
  std::memcpy(&word, tensor.data + index * int64_t{sizeof(word)}, sizeof(word));
  return word >> (place * bits) & ((1u << bits) - 1);
}

absl::Status ReadGroupOfInputs(const WeightSource& source, const std::string& name, int64_t cols,
                               IntegerCodes& integers) {
  if (!source.Has(name)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const WeightTensor tensor, GetTyped(source, name, {DType::kI32}, std::array{cols}));
  std::vector<int32_t> group_of(static_cast<size_t>(cols));
  std::memcpy(group_of.data(), tensor.data, group_of.size() * sizeof(int32_t));
  bool is_in_order = true;
  for (int64_t k = 0; k < cols; ++k) {
    if (group_of[k] < 0 || group_of[k] >= integers.num_groups) {
      return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " has the group ", group_of[k],
                                               "; must be 0..", integers.num_groups - 1));
    }
    is_in_order = is_in_order && group_of[k] == k / integers.group_size;
  }
  if (!is_in_order) integers.group_of = std::move(group_of);
  return absl::OkStatus();
}

double BiasSteps(int32_t stored, double correction) {
  constexpr double kLost = 0x1p-22;
  const double steps = stored + correction;
  return std::fabs(steps) <= kLost * std::fabs(correction) ? 0.0 : steps;
}

absl::Status CheckZeros(const Grid& grid) {
  const auto bad = std::ranges::find_if(grid.values, [](float value) { return value != 0.0f; });
  if (bad == grid.values.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("tensor ", ShowName(grid.name), " has the value ", *bad, "; must be 0"));
}

absl::StatusOr<std::unique_ptr<StoredWeight>> OpenFp8(const WeightSource& source, const std::string& module,
                                                      std::span<const int64_t> shape, BlockSize block) {
  const std::string name = module + ".weight";
  ASSIGN_OR_RETURN(const WeightTensor codes, GetTyped(source, name, {DType::kF8E4M3}, shape));
  if (shape.size() != 2) {
    return absl::InvalidArgumentError(StrCat("tensor ", ShowName(name), " has shape ", ShowShape(shape),
                                             "; 8-bit floats must have two dimensions"));
  }
  const int64_t rows = shape[0], cols = shape[1];
  const std::string inverse = module + ".weight_scale_inv";
  const bool has_inverse = source.Has(inverse);
  const std::string plain = module + ".weight_scale";
  const bool wants_inverse = has_inverse || (block.rows > 0 && !source.Has(plain));
  ASSIGN_OR_RETURN(Grid scales, ReadGrid(source, wants_inverse ? inverse : plain));
  Fp8Blocks blocks = {.codes = codes, .block_rows = block.rows, .block_cols = block.cols};
  if (has_inverse || scales.cols > 1) {
    if (block.rows == 0) {
      return absl::InvalidArgumentError(
          StrCat("tensor ", ShowName(scales.name), " is there, but config.json has no size of its blocks"));
    }
    RETURN_IF_ERROR(CheckGrid(scales, (rows + block.rows - 1) / block.rows, (cols + block.cols - 1) / block.cols));
  } else {
    RETURN_IF_ERROR(SpreadOverRows(scales, rows));
    blocks.block_rows = 1;
    blocks.block_cols = cols;
  }
  blocks.scales = std::move(scales.values);
  return MakeFp8Weight(scales.cols > 1 || has_inverse ? "fp8_block" : "fp8", rows, cols, std::move(blocks),
                       {codes, scales.tensor});
}

}  // namespace expertd
