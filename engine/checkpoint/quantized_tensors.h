// What the forms of StoredWeights share: the tensors that a quantized weight consists of, read and checked. All errors
// are InvalidArgument and name the tensor and the value, unless said.
#pragma once

#include <cstdint>
#include <initializer_list>
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

// Which of `choices` `object[key]` is; the first when it is missing. Errors: Unimplemented naming the key, the value
// and the choices.
absl::StatusOr<size_t> ReadChoice(const Json& object, std::string_view key,
                                  std::initializer_list<std::string_view> choices);

// The rows and columns of a block with one scale; 0 x 0 where they are not said.
struct BlockSize {
  int64_t rows = 0, cols = 0;
};

// `object[key]`, a list of two sizes. Errors: InvalidArgument naming the key and the value.
absl::StatusOr<BlockSize> ReadBlockSize(const Json& object, std::string_view key);

// "model.layers.0.mlp.gate_proj" of "model.layers.0.mlp.gate_proj.weight"; nothing for names without that ending.
std::optional<std::string> ModuleOf(std::string_view weight_name);

// The tensor `name`, of one of `dtypes` and of `shape`. Errors: also NotFound.
absl::StatusOr<WeightTensor> GetTyped(const WeightSource& source, std::string_view name,
                                      std::initializer_list<DType> dtypes, std::span<const int64_t> shape);

// Scales or zero points: finite numbers [rows, cols]. A vector is one column, a scalar 1 x 1.
struct Grid {
  std::string name;
  WeightTensor tensor;
  std::vector<float> values;
  int64_t rows = 1, cols = 1;
};

// Takes floats, i8, and 8-bit exponents, as which u8 is read too. Errors: also NotFound.
absl::StatusOr<Grid> ReadGrid(const WeightSource& source, const std::string& name);

// The numbers of `tensor`, called `name`, which must be finite: floats, or integers of 64 bits whose lower half is a
// float's bits.
absl::StatusOr<std::vector<float>> ScaleValues(const WeightTensor& tensor, std::string_view name);

// InvalidArgument, naming the grid and its shape, unless it has `rows` x `cols`.
absl::Status CheckGrid(const Grid& grid, int64_t rows, int64_t cols);

// [rows, number of groups] from a grid that has so many rows, or from a single value.
absl::Status SpreadOverRows(Grid& grid, int64_t rows);

// The inputs of a group when `cols` inputs have `num_groups`: `said`, where that yields so many, or else equal parts.
// `name` is the tensor of the scales.
absl::StatusOr<int64_t> GroupSize(int64_t cols, int64_t num_groups, int64_t said, std::string_view name);

// Makes `grid`, which has a row for each output, the group scales of `integers`, and notes its tensor in `tensors`.
// cols, said: as of GroupSize.
absl::Status SetGroupScales(Grid grid, int64_t cols, int64_t said, IntegerCodes& integers,
                            std::vector<WeightTensor>& tensors);

// Code `place` of the 32-bit word `index` of `tensor`, counted from the word's low end.
uint32_t CodeOfWord(const WeightTensor& tensor, int64_t index, int place, int bits);

// The tensor `name` i32 [cols], the group of each input, where it is there: into integers.group_of, unless inputs lie
// in order and groups are integers.group_size each.
absl::Status ReadGroupOfInputs(const WeightSource& source, const std::string& name, int64_t cols,
                               IntegerCodes& integers);

// A bias in steps of a scale: `stored` holds it less `correction`. What was lost when the correction was computed in
// single precision is no bias.
double BiasSteps(int32_t stored, double correction);

// Zeros only.
absl::Status CheckZeros(const Grid& grid);

// A weight of 8-bit floats `module`.weight with the scales `module`.weight_scale_inv or `module`.weight_scale: one for
// every block, one for each row, or one.
absl::StatusOr<std::unique_ptr<StoredWeight>> OpenFp8(const WeightSource& source, const std::string& module,
                                                      std::span<const int64_t> shape, BlockSize block);

}  // namespace expertd
